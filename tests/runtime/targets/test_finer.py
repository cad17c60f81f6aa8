"""A class against its most similar ones: by hand, by torch's gradient, and by pytorch-grad-cam's FinerCAM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from xai_deploy import Explainer, Finer
from xai_deploy.errors import TargetError, UnknownLabelError
from xai_deploy.targets import Contrast, Not, Region, ScoreSpace, read

from .. import tiny
from ..conftest import Bundles
from ..methods.test_methods import assert_close

LABELS = ("cat", "dog", "top2", "owl vs top2", "7")
LOGITS = np.array([[1, 5, 3, 4, 2], [9, 1, 8, 0, 3]], np.float32)


def seeds(target: Any, labels: tuple[str, ...] = LABELS) -> Any:
    """The weights of a target for each class and image."""
    [one] = read([target], 2, ScoreSpace(5, labels))
    return one.seed(lambda: LOGITS).dense(5)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("dog vs top1", [[0, 1, 0, -1, 0], [0, 1, 0, -1, 0]]),  # of image 2: owl's 0 is as near to 1 as no other
        ("cat vs top3", [[1, 0, -1 / 3, -1 / 3, -1 / 3], [1, -1 / 3, -1 / 3, 0, -1 / 3]]),
        ("-1 VS TOP1", [[0, 1, 0, -1, 0], [1, 0, -1, 0, 0]]),
        ("0 vs 0.5*top1", [[1, 0, 0, 0, -0.5], [1, 0, -0.5, 0, 0]]),
        ("cat vs 2 * top2", [[1, 0, -1, 0, -1], [1, 0, -1, 0, -1]]),
        ("owl vs top2", [[0, 0, 0, 1, 0]] * 2),  # a label
        ("cat vs dog", [[1, -1, 0, 0, 0]] * 2),
        ("cat vs top2", [[1, 0, -1, 0, 0]] * 2),  # the contrast with the class of that name
        (Finer("cat", 2), [[1, 0, -0.5, 0, -0.5]] * 2),
        (Finer(None, 1, 0.0), [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]),
        ([Finer(3, 1), "cat vs dog"], [[0, -1, 0, 1, 0], [1, -1, 0, 0, 0]]),
    ],
    ids=str,
)
def test_readings(target: Any, wanted: list[list[float]]) -> None:
    labels = LABELS if "2 *" not in str(target) else ("cat", "dog", "elk", "owl", "7")
    np.testing.assert_allclose(seeds(target, labels), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("cat vs top5", "top5: the network has 5 classes, so a class is compared with 1 to 4 others"),
        (Finer(0, 0), "top0: the network has 5 classes, so a class is compared with 1 to 4 others"),
        (Finer(0, 2, -1.0), "a target vs top2: gamma is 0 or more, not -1.0"),
        (Finer(0, 2, float("nan")), "gamma is 0 or more, not nan"),
        (Finer(0, 2, 1.0, "softmax"), "Finer: weights are 'equal' or 'probability', not 'softmax'"),  # type: ignore[arg-type]
        ("cat vs 1.2.3*top2", r"target 'cat vs 1\.2\.3\*top2': '1\.2\.3' is no number"),
        (Finer(Contrast(0, 1)), "vs top3: takes a class index or a label, not Contrast"),
        (Finer(Not(0)), "vs top3: takes a class index or a label, not Not"),
        (Finer(Region(0, "all")), "vs top3: takes a class index or a label, not Region"),
    ],
    ids=str,
)
def test_refusals(target: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        seeds(target)
    with pytest.raises(UnknownLabelError, match="no label 'elk'"):
        seeds("elk vs top3")
    with pytest.raises(
        TargetError, match="Finer needs a network that gives a score for each class; this one gives numbers"
    ):
        read([Finer(1)], 1, ScoreSpace(5, kind="vector"))


def test_weighted_by_probability() -> None:
    """The gradient of the authors' score, by autograd."""
    got = seeds(Finer(0, 3, 0.6, "probability"))
    for image, logits in enumerate(torch.tensor(LOGITS, dtype=torch.float64)):
        z = logits.clone().requires_grad_()
        similar = [int(i) for i in torch.argsort((logits - logits[0]).abs(), stable=True) if i != 0][:3]
        p = z.softmax(0)[similar]
        (((z[0] - 0.6 * z[similar]) * p).sum() / p.sum()).backward()
        np.testing.assert_allclose(got[image], z.grad, atol=1e-6)


def test_every_method(bundles: Bundles, backend: str) -> None:
    """As the same weights by hand; titles say what is compared."""
    net, x = bundles("residual", gradients=True), tiny.inputs("residual", 3)
    explainer = Explainer(net.path, backend, batch_size=2)
    target = Finer(None, 2, 0.6)
    [one] = read([target], 3, ScoreSpace(tiny.CLASSES))
    hand = one.seed(lambda: explainer.predict(x)).dense(tiny.CLASSES)
    specs: list[Any] = [
        "grad-cam",
        "layer-cam",
        "reciprocam",
        "eigen-grad-cam",
        "score-cam",
        ("rise", {"masks": 20}),
        "gradient",
    ]
    found = explainer.explain_many(x, specs, [target, hand])
    for got, wanted in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_allclose(got.raw, wanted.raw, rtol=1e-5, atol=1e-6 * np.abs(wanted.raw).max())
        assert got.target.tolist() == explainer.predict(x).argmax(1).tolist()
        assert [got.caption(i) for i in range(3)] == [
            f"{explainer.network.label(int(c))} vs 0.6*top2" for c in got.target
        ]


@pytest.mark.parametrize("similar", [1, 3])
def test_pytorch_grad_cam(bundles: Bundles, backend: str, similar: int) -> None:
    """Its FinerCAM of Grad-CAM picks the classes and weights them by their probabilities."""
    peer = pytest.importorskip("pytorch_grad_cam")
    w, x = tiny.weights(), tiny.inputs("pooled", 3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 4, 4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 5),
    )
    network[0].load_state_dict({"weight": torch.tensor(w["conv1"]), "bias": torch.tensor(w["bias1"])})
    network[4].load_state_dict({"weight": torch.tensor(w["linear"].T), "bias": torch.tensor(w["bias"])})
    raw: list[Any] = []
    with peer.FinerCAM(model=network, target_layers=[network[1]]) as cam:
        weighted = cam.base_cam.get_cam_image

        def keep(*arguments: Any, **named: Any) -> Any:
            raw.append(np.maximum(weighted(*arguments, **named), 0))
            return raw[-1]

        cam.base_cam.get_cam_image = keep
        cam(torch.tensor(x), alpha=0.6, comparison_categories=list(range(1, similar + 1)))
    explainer = Explainer(bundles("pooled", gradients=True).path, backend)
    got = explainer.explain(x, "grad-cam", Finer(None, similar, 0.6, "probability"))
    assert_close(got.raw, raw[0], 1e-4)
