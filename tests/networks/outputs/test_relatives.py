"""Ablation-CAM, occlusion, Group-CAM and IS-CAM of regions, numbers and similarities: by their definitions in torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from xai_exporters import Request, export

from xai_deploy import Contrast, Explainer, Like, Not, Region

from .nets import SIZE, Embedding, UNet, images, saved

MASK = np.zeros(SIZE, bool)
MASK[5:12, 7:20] = True
REFERENCE = np.arange(1, 7, dtype=np.float32)


class Case(NamedTuple):
    """A bundle, what a target explains, and the same in torch: features of images, and the number of an activation beside them."""

    bundle: Path
    target: Any
    features: Callable[[Tensor], Tensor]
    number: Callable[[Tensor, Tensor], Tensor]

    def score(self, x: Tensor) -> Tensor:
        return self.number(self.features(x), x)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("relatives")
    dense, vector = UNet("bilinear"), Embedding()
    for name, network, task in (("dense", dense, None), ("vector", vector, "numbers"), ("unit", vector, "embedding")):
        source = saved(network, folder / f"{name}.onnx")
        export(Request(source, output_path=folder / f"{name}.xai", preprocess="none", task=task))  # type: ignore[arg-type]
    where, reference = torch.from_numpy(MASK), functional.normalize(torch.from_numpy(REFERENCE), dim=0)

    def region(activation: Tensor, x: Tensor) -> Tensor:
        y = dense.dense(activation, dense.features(x)[1])
        return (y[:, 2] - y[:, 4])[:, where].mean(1)

    def features(x: Tensor) -> Tensor:
        return dense.features(x)[0]

    return {
        "region": Case(folder / "dense.xai", Contrast(Region(2, MASK), Region(4, MASK)), features, region),
        "number": Case(folder / "vector.xai", Not("#3"), vector.features, lambda a, _: -vector.numbers(a)[:, 3]),
        "similarity": Case(
            folder / "unit.xai",
            Like(REFERENCE),
            vector.features,
            lambda a, _: functional.normalize(vector.numbers(a), dim=1) @ reference,
        ),
    }


def up(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, SIZE, mode="bilinear", align_corners=False)


def stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


def ablation(case: Case, x: Tensor) -> Tensor:
    a, whole = case.features(x), case.score(x)
    weights = []
    for k in range(a.shape[1]):
        without = a.clone()
        without[:, k] = 0
        weights.append((whole - case.number(without, x)) / whole.abs())
    return (torch.stack(weights, 1)[..., None, None] * a).sum(1)


def occlusion(case: Case, x: Tensor) -> Tensor:
    total, count = torch.zeros(len(x), *SIZE), torch.zeros(SIZE)
    for top in range(0, SIZE[0], 8):
        for left in range(0, SIZE[1], 8):
            place = (..., slice(top, top + 8), slice(left, left + 8))
            covered = x.clone()
            covered[place] = 0
            total[place] += (case.score(x) - case.score(covered))[:, None, None]
            count[place] += 1
    return total / count


def group(case: Case, x: Tensor) -> Tensor:
    a = case.features(x).detach().requires_grad_()
    [g] = torch.autograd.grad(case.number(a, x).sum(), a)
    weighted = (g.mean((2, 3), keepdim=True) * a).detach()
    saliency = up(torch.stack([part.sum(1) for part in weighted.chunk(4, 1)], 1).relu())
    padded = functional.pad(x, [2] * 4, mode="reflect")
    taps = torch.exp(-((torch.arange(5) - 2.0) ** 2) / 2)
    kernel = (torch.outer(taps, taps) / taps.sum() ** 2).expand(3, 1, 5, 5)
    blurred, masks, total = functional.conv2d(padded, kernel, groups=3), stretched(saliency), torch.zeros(len(x), *SIZE)
    for one in range(4):
        m = torch.nan_to_num(masks[:, one : one + 1])
        gain = (case.score(x * m + blurred * (1 - m)) - case.score(blurred)).relu()
        total += gain[:, None, None] * saliency[:, one]
    return total


def integrated(case: Case, x: Tensor) -> Tensor:
    a = case.features(x)
    masks, live = stretched(up(a)), a.amax((2, 3)) > a.amin((2, 3))
    means = torch.stack(
        [
            torch.stack([case.score(x * masks[:, k : k + 1].nan_to_num() * s / 3) for s in (1, 2, 3)]).mean(0)
            for k in range(a.shape[1])
        ],
        1,
    )
    weights = means.masked_fill(~live, -torch.inf).softmax(1)
    return (weights[..., None, None] * a).sum(1)


METHODS: dict[str, tuple[dict[str, Any], Callable[[Case, Tensor], Tensor]]] = {
    "ablation-cam": ({}, ablation),
    "occlusion": ({"size": 8, "stride": 8, "score": "logit"}, occlusion),
    "group-cam": ({"groups": 4, "width": 5, "sigma": 1.0, "score": "logit"}, group),
    "is-cam": ({"samples": 3}, integrated),
}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["region", "number", "similarity"])
def test_definitions(cases: dict[str, Case], backend: str, kind: str) -> None:
    case, x = cases[kind], images(3)
    explainer = Explainer(case.bundle, backend, batch_size=5)
    for method, (options, definition) in METHODS.items():
        wanted: NDArray[Any] = definition(case, torch.from_numpy(x)).detach().numpy()
        # a gain of Group-CAM is a small difference of two scores, each rounded
        tolerance = (5e-4 if method == "group-cam" else 1e-4) * np.abs(wanted).max()
        assert tolerance > 0, method
        wanted = wanted if method == "occlusion" else np.maximum(wanted, 0)
        got = explainer.explain(x, method, case.target, **options).raw
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance, err_msg=method)
        np.testing.assert_allclose(
            explainer.explain(x[1], method, case.target, **options).raw, wanted[1:2], rtol=0, atol=tolerance
        )
