"""What other projects' metrics say of one small case, and the figures that they gave: numpy alone, unless it is run by hand.

Each peer runs in an environment of its own, for none fits beside the pinned versions: OpenVINO XAI asks for NumPy 1 and
OpenVINO 2024, Quantus for pandas and ten seconds of imports (its metrics without a network need no torch). From the
repository's root:

    python3.11 -m venv ovx && ovx/bin/pip install "numpy<2" openvino==2024.4 scipy opencv-python-headless matplotlib tqdm
    ovx/bin/pip install --no-deps openvino-xai==1.1.0
    ovx/bin/python tests/evaluation/metrics/peers.py openvino_xai

    python3.11 -m venv qua && qua/bin/pip install quantus==0.6.0
    qua/bin/python tests/evaluation/metrics/peers.py quantus

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
# By quantus 0.6.0 (NumPy 2.4.6, SciPy 1.17.1).
QUANTUS = {
    "RelevanceMassAccuracy": [0.11903503318941151, 0.4811312246744805, 0.29973709816113725],
    "RelevanceRankAccuracy": [0.0, 0.44, 0.2857142857142857],
    "PointingGame": [0.0, 1.0, 0.0],
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
    other = maps(images, OTHER)
    for name in ("pearson", "spearman"):
        compute = getattr(similarity, f"correlation_{name}")
        found[name] = [float(compute(a.ravel(), b.ravel())) for a, b in zip(heat, other, strict=True)]
    return found


if __name__ == "__main__":
    for figure, values in {"openvino_xai": openvino_xai, "quantus": quantus}[sys.argv[1]]().items():
        print(f'    "{figure}": {values},')  # noqa: T201
