"""Occlusion sensitivity: against the definition in torch, float64, one patch at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy import Explainer
from xai_deploy.errors import NotApplicableError, OptionError
from xai_deploy.format.bundle import Preprocess
from xai_deploy.methods import create
from xai_deploy.methods.occlusion import Occlusion

from ...evaluation.metrics import linear
from .. import tiny
from ..conftest import Bundles
from .test_methods import assert_close, counting


def corners(side: int, size: int, stride: int) -> list[int]:
    """Captum's number of places along an axis: ceil((side - size) / stride) + 1."""
    return [i * stride for i in range(int(np.ceil(max(side - size, 0) / stride)) + 1)]


def by_definition(
    net: tiny.Tiny, x: NDArray[Any], seed: NDArray[Any], size: int, stride: int, score: str, fill: Any
) -> NDArray[np.float64]:
    """x [n,3,h,w] as it reaches the network; `fill` broadcasts to an image."""

    def f(image: NDArray[Any]) -> float:
        logits = net.logits(np.moveaxis(image, 0, -1)[None] if net.kind == "nhwc" else image[None])[0]
        return float((logits.softmax(0) if score == "softmax" else logits).numpy() @ seed)

    maps = []
    for image in x:
        total, count = np.zeros(image.shape[1:]), np.zeros(image.shape[1:])
        for top in corners(tiny.HEIGHT, size, stride):
            for left in corners(tiny.WIDTH, size, stride):
                place = slice(top, top + size), slice(left, left + size)
                covered = image.astype(np.float64).copy()
                covered[:, *place] = np.broadcast_to(fill, image.shape)[:, *place]
                total[place] += f(image) - f(covered)
                count[place] += 1
        maps.append(total / count)
    return np.stack(maps)


@pytest.mark.parametrize("kind", ["pooled", "residual", "nhwc", "uint8"])
@pytest.mark.parametrize("count", [1, 3])
def test_definition(bundles: Bundles, backend: str, kind: tiny.Kind, count: int) -> None:
    net, x = bundles(kind), tiny.inputs(kind, count)
    planes = np.moveaxis(x, -1, 1) if kind in ("nhwc", "uint8") else x
    explainer = Explainer(net.path, backend, batch_size=7)
    seed = np.eye(tiny.CLASSES)[1] - np.eye(tiny.CLASSES)[3]
    for size, stride, score in ((6, 4, "softmax"), (5, 5, "logit"), (30, 7, "logit")):
        spec: Any = ("occlusion", {"size": size, "stride": stride, "score": score})
        one, contrast = explainer.explain_many(x, [spec], [1, "1 vs 3"])
        assert one.signed == contrast.signed == (True,) * count
        for e, weights in ((one, np.eye(tiny.CLASSES)[1]), (contrast, seed)):
            wanted = by_definition(net, planes, weights, size, stride, score, 0)
            if size < 20:
                assert_close(e.raw, wanted, 5e-5)
            else:  # one patch covers all: the map is the score's whole drop
                np.testing.assert_allclose(e.raw, wanted, rtol=1e-4, atol=1e-5)


def test_black(tmp_path: Path, backend: str) -> None:
    """The normalised black colour, which differs from zeros: (0 - mean) / std."""
    mean, std = (1.0, 2.0, 3.0), (2.0, 2.0, 4.0)
    net = tiny.write(tmp_path / "net.xai", preprocess=Preprocess(scale=1.0, mean=mean, std=std))
    x = tiny.inputs("pooled", 2)
    got = Explainer(net.path, backend).explain(x, "occlusion", 2, size=4, stride=3, baseline="black", score="logit")
    black = -(np.array(mean) / std)[:, None, None]
    assert_close(got.raw, by_definition(net, x, np.eye(tiny.CLASSES)[2], 4, 3, "logit", black), 5e-5)


def test_defaults_and_runs(bundles: Bundles) -> None:
    """A seventh of the shortest side, 16, is 3 pixels, half of it 2: 8 by 10 patches for each image, for all targets at once."""
    explainer = Explainer(bundles("pooled").path, "onnxruntime")
    head = counting(explainer, "head")
    explainer.explain_many(tiny.inputs("pooled", 2), ["occlusion"], ["top3"])
    assert sum(head.batches) == 2 + 2 + 2 * len(corners(16, 3, 2)) * len(corners(20, 3, 2))
    assert len(Occlusion()._patches((224, 224))) == 169
    assert len(Occlusion(size=4, stride=4)._patches((8, 9, 4))) == 2 * 3


def test_a_patch_of_a_pixel(tmp_path: Path) -> None:
    """f = w . x: the map is w x itself."""
    weight = np.random.default_rng(0).standard_normal((2, 1, 6, 5))
    explainer = linear.network(tmp_path / "net", weight)
    x = np.random.default_rng(1).standard_normal((1, 6, 5)).astype(np.float32)
    e = explainer.explain(x, "occlusion", "0 vs 1", size=1, score="logit")
    np.testing.assert_allclose(e.raw[0], (weight[0, 0] - weight[1, 0]) * x[0], atol=1e-5)


def test_refusals(tmp_path: Path) -> None:
    for options, message in (
        ({"size": 0}, "occlusion: size and stride are at least 1 pixel"),
        ({"stride": -1}, "occlusion: size and stride are at least 1 pixel"),
        ({"size": 4, "stride": 5}, "occlusion: stride is at most size, else pixels between the patches are left out"),
    ):
        with pytest.raises(OptionError, match=message):
            create("occlusion", options)
    explainer = linear.network(tmp_path / "net", np.ones((1, 1, 6, 5)))
    x = np.ones((1, 6, 5), np.float32)
    with pytest.raises(OptionError, match="stride 9 is above the patch's size, which is 1 for this network"):
        explainer.explain(x, "occlusion", score="logit", stride=9)
    with pytest.raises(NotApplicableError, match="always 1 for a network of one class"):
        explainer.explain(x, "occlusion", score="softmax")
