"""What other projects' metrics say of one small case, and the figures that they gave: numpy alone, unless it is run by hand.

Each peer runs in an environment of its own, for none fits beside the pinned versions: OpenVINO XAI asks for NumPy 1 and
OpenVINO 2024, Quantus for pandas and ten seconds of imports. From the repository's root:

    python3.11 -m venv ovx && ovx/bin/pip install "numpy<2" openvino==2024.4 scipy opencv-python-headless matplotlib tqdm
    ovx/bin/pip install --no-deps openvino-xai==1.1.0
    ovx/bin/python tests/evaluation/metrics/peers.py openvino_xai

    python3.11 -m venv qua && qua/bin/pip install quantus==0.6.0 torch
    qua/bin/python tests/evaluation/metrics/peers.py quantus

`quantus_peer.py` says how Quantus' metrics of the set `trusted` get our draws.

Xplique (2.0.2) needs TensorFlow and was read, not run: its CausalFidelity cuts the steps down to whole pixels (`linspace` to
int32) and takes the trapezoid over equal steps, which is OpenVINO XAI's definition and, where the steps divide the pixels,
ours; its RISE divides by the sum of the masks at each pixel instead of N p.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLASSES, COLOURS, HEIGHT, WIDTH, COUNT = 3, 3, 6, 8, 3
TARGET = (0, 2, 2)
OTHER = (1, 0, 0)
STEPS = 16  # three pixels each
BIAS = (8.0, 0.0, 0.0)
STEPS_OF_TWO, STEPS_OF_FOUR = 24, 12  # pixels each
SQUARES, SIDE = 48, 3
SETS, SIZES = 20, 3
NOISES, RADIUS = 4, 0.1  # of max-sensitivity, and a share of the image's own range
ROAD_NOISE = 2e-4  # a share of the range from black to white
BINS = 7
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.4, 0.8)  # they say what is black and white
BOXES = ((1, 1, 3, 2), (0, 0, 5, 5), (0, 3, 7, 2))  # x, y, w, h of one box per image, whole pixels

# As printed by openvino-xai 1.1.0 (OpenVINO 2024.4.0, NumPy 1.26.4), computing in float32.
OPENVINO_XAI = {
    "adcc": [0.7942932101176717, 0.3758766079885607, 0.44226548653740383],
    "coherency": [0.9680004410846234, 0.9740851750885915, 0.983283711486107],
    "complexity": [0.42656782147736233, 0.4386656808285407, 0.4830994933700976],
    "average_drop": [0.0, 0.8066986203193665, 0.7390156388282776],
    "insertion": [0.8280775535386056, 0.3322197900042738, 0.3312751849070992],
    "deletion": [0.6850149023812264, 0.03537944265463011, 0.042933282710691856],
    "pointing_game": [0.0, 1.0, 0.0],
}
# By quantus 0.6.0 (NumPy 2.4.6, SciPy 1.17.1, torch 2.13.0).
QUANTUS = {
    "RelevanceMassAccuracy": [0.11903503318941151, 0.4811312246744805, 0.29973709816113725],
    "RelevanceRankAccuracy": [0.0, 0.44, 0.2857142857142857],
    "PointingGame": [0.0, 1.0, 0.0],
    "PixelFlipping, LIF - MIF": [-0.011485304837776739, 0.43967950171818526, 0.3608671378452503],
    "Monotonicity": [0.0, 0.0, 1.0],
    "Monotonicity, steps": [0.0, 0.9166666666666666, 1.0],
    "Infidelity": [20.543787272837573, 12.795965896805093, 14.25691158680285],
    "Infidelity, least": [0.01945162109244658, 0.0007670468578382383, 0.0005043339482288245],
    "SensitivityN": [0.21593442711895697, 0.9796331595962067, 0.9629010539860102],
    "MaxSensitivity": [0.08216784597878503, 0.09454336362415756, 0.087868166406851],
    "imputation, most": [0.23307978947923294, 0.2630726300744828, 0.23779490976430825],
    "imputation, least": [0.12439326902160716, 0.8033608725853818, 0.8064793637953637],
    "EfficientMPRT": [-0.06612221267564525, -0.027540521918464893, -0.0230758427375859],
    "pearson": [-0.1556264004545171, -0.0636863429135318, 0.044026359925017855],
    "spearman": [-0.20191055145462442, -0.06773773339122884, 0.13775510204081634],
}


def weight() -> Floats:
    """[classes,C,H,W]; class 0 lives by its bias, class 2 is class 1, a little stronger."""
    numbers = np.arange(CLASSES * COLOURS * HEIGHT * WIDTH)
    drawn = ((numbers * 37 % 101 - 30) / 160).reshape(CLASSES, COLOURS, HEIGHT, WIDTH)
    drawn[0] *= 0.2
    drawn[2] = 1.2 * drawn[1]
    return drawn


def inputs() -> Floats:
    """[n,C,H,W]."""
    numbers = np.arange(COUNT * COLOURS * HEIGHT * WIDTH)
    return ((numbers * numbers * 53 % 997) / 997).reshape(COUNT, COLOURS, HEIGHT, WIDTH)


def maps(x: Floats, target: Any) -> Floats:
    """sum over the colours of weight * input, min-max: [n,H,W]."""
    raw = (weight()[list(target)] * x).sum(1)
    low, high = raw.min(axis=(1, 2), keepdims=True), raw.max(axis=(1, 2), keepdims=True)
    scaled: Floats = (raw - low) / (high - low)
    return scaled


def probabilities(planes: Floats) -> Floats:
    """[b,C,H,W] -> [b,classes]."""
    logits = np.einsum("kchw,bchw->bk", weight(), planes) + BIAS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def empty(planes: Floats, baseline: str) -> Floats:
    """What replaces the pixels of an image [C,H,W]."""
    if baseline == "mean":
        mean: Floats = planes.mean(axis=(1, 2), keepdims=True)
        return mean
    return np.zeros((COLOURS, 1, 1)) if baseline == "zeros" else -(np.array(MEAN) / STD)[:, None, None]


def regions() -> list[NDArray[np.bool_]]:
    """The boxes, [H,W] each."""
    found = []
    for x, y, w, h in BOXES:
        region = np.zeros((HEIGHT, WIDTH), bool)
        region[y : y + h, x : x + w] = True
        found.append(region)
    return found


def openvino_xai() -> dict[str, Any]:
    """ADCC and its parts, insertion and deletion with 16 steps, the pointing game: each image's."""
    metrics = importlib.import_module("openvino_xai.metrics")
    ov = importlib.import_module("openvino")
    ops = importlib.import_module("openvino.runtime.opset13")
    image = ops.parameter([1, COLOURS, HEIGHT, WIDTH], np.float32)
    flat = ops.reshape(image, ops.constant(np.array([1, -1])), False)
    logits = ops.matmul(flat, ops.constant(weight().reshape(CLASSES, -1).astype(np.float32)), False, True)
    logits = ops.add(logits, ops.constant(np.array(BIAS, np.float32)))
    model = ov.Model([ops.softmax(logits, 1)], [image])

    class Explained:
        """What its explainer returns, as far as its metric looks."""

        def __init__(self, saliency_map: dict[int, Floats]) -> None:
            self.saliency_map = saliency_map

    def explainer(image: Floats, targets: int, **_: Any) -> Explained:
        return Explained({targets: maps(image.transpose(2, 0, 1)[None], [targets])[0]})

    def chw(image: Floats) -> NDArray[np.float32]:
        return image.transpose(2, 0, 1)[None].astype(np.float32)

    adcc = metrics.ADCC(model, chw, lambda out: out[0], explainer)
    curves = metrics.InsertionDeletionAUC(model, chw, lambda out: out[0])
    exact = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    adcc.model_compiled = curves.model_compiled = exact  # its own default is bf16 where the CPU has it: 0.8 % off
    pointing = metrics.PointingGame()
    found: dict[str, Any] = {}
    images = inputs()
    for i, heat in enumerate(maps(images, TARGET)):
        hwc = images[i].transpose(1, 2, 0)
        rows = dict(adcc(heat, TARGET[i], hwc))
        rows |= curves(heat, TARGET[i], hwc, STEPS)
        x, y, w, h = BOXES[i]
        rows |= pointing(heat, [(x, y, w - 1, h - 1)])  # its boxes hold their last row and column
        for name, value in rows.items():
            found.setdefault(name, []).append(float(value))
    return found


def quantus() -> dict[str, Any]:
    """Relevance mass accuracy (energy), the pointing game, and correlations of the maps with those of `OTHER`."""
    peer = importlib.import_module("quantus")
    similarity = importlib.import_module("quantus.functions.similarity_func")
    images = inputs()
    heat, boxes = maps(images, TARGET), np.stack(regions())
    found: dict[str, Any] = {}
    for name in ("RelevanceMassAccuracy", "RelevanceRankAccuracy", "PointingGame"):
        metric = getattr(peer, name)(abs=False, normalise=False, disable_warnings=True)
        scores = metric.evaluate_batch(a_batch=heat[:, None], s_batch=boxes[:, None])
        found[name] = [float(score) for score in scores]
    found |= trusted()
    other = maps(images, OTHER)
    for name in ("pearson", "spearman"):
        compute = getattr(similarity, f"correlation_{name}")
        found[name] = [float(compute(a.ravel(), b.ravel())) for a, b in zip(heat, other, strict=True)]
    return found


def trusted() -> dict[str, Any]:
    """The metrics with a network, of each image."""
    peer = importlib.import_module("quantus_peer")
    images, heat, found = inputs(), maps(inputs(), TARGET), dict[str, Any]()
    white_to_black = (255 / np.array(STD))[:, None, None]
    for x, one, target in zip(images, heat, TARGET, strict=True):

        def explain(inputs: Floats, target: int = target) -> Floats:
            return maps(inputs, [target] * len(inputs))

        def score(planes: Floats, target: int = target) -> Floats:
            return probabilities(planes)[:, target]

        def seen(baseline: str, x: Floats = x, score: Any = score) -> Any:
            return lambda shares: score(np.where(shares[:, None] > 0, x, empty(x, baseline)))

        rng = np.random.default_rng(0)
        moved = RADIUS * np.ptp(x) * np.stack([rng.uniform(-1, 1, x.shape) for _ in range(NOISES)])
        rng = np.random.default_rng(0)
        noises = [ROAD_NOISE * white_to_black * rng.standard_normal(x.shape) for _ in peer.SHARES]
        verdict, share = peer.monotonicity(seen("black"), one, STEPS_OF_FOUR)
        plain, least = peer.infidelity(seen("black"), one, peer.squares(one.shape, SIDE, SQUARES))
        most_first, least_first = peer.road(score, x, one, noises)
        figures = {
            "PixelFlipping, LIF - MIF": peer.srg(seen("mean"), one, STEPS_OF_TWO),
            "Monotonicity": verdict,
            "Monotonicity, steps": share,
            "Infidelity": plain,
            "Infidelity, least": least,
            "SensitivityN": float(
                np.mean([peer.sensitivity_n(seen("zeros"), one, s) for s in peer.sets(one.shape, SIZES, SETS)])
            ),
            "MaxSensitivity": peer.max_sensitivity(explain, x, one, moved),
            "imputation, most": most_first,
            "imputation, least": least_first,
        }
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    return {**found, "EfficientMPRT": peer.emprt(heat, maps(images, OTHER), BINS)}


if __name__ == "__main__":
    for figure, values in {"openvino_xai": openvino_xai, "quantus": quantus}[sys.argv[1]]().items():
        print(f'    "{figure}": {values},')  # noqa: T201
