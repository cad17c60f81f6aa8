"""Fused contrasts of a detector's rows, against autograd on the live network and against the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from xai_exporters import Request, export
from xai_exporters.errors import GraphError

from tests.exporters.checks import open_vino
from tests.exporters.roles.fuse.harness import onnxruntime
from xai_deploy import Explainer

from .conftest import ALL, Made
from .test_fused import layer_cam, stretched
from .test_layouts import shares_of

Get = Callable[[str], Made]
RUNTIMES = (onnxruntime, open_vino)
METHODS = (
    "layer-cam",
    "relevance-cam:combine=mean",
    "lrp",
    "integrated-gradients:steps=2",
    "reciprocam:score=logit:layer=2",
)
NONE = -2


@pytest.fixture(scope="module")
def yolo(made: Get, tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Path]:
    return made("yolov8"), exported(made("yolov8"), tmp_path_factory.mktemp("versus"), METHODS)


def exported(own: Made, folder: Path, methods: tuple[str, ...]) -> Path:
    roles = ("gradient", "relevance", "pixel-relevance") if "lrp" in methods else ("gradient",)
    request = Request(
        own.source, output_path=folder / "net.xai", preprocess="none", fuse=methods, versus=True, roles=roles
    )
    return export(request).path


def run(
    path: Path, method: str, runtime: Any, own: Made, first: tuple[Any, Any], other: tuple[Any, Any]
) -> NDArray[Any]:
    """The maps of all images for (class, row) rather than (class, row)."""
    names = ("target", "row", "versus", "versus_row")
    asked = {name: np.broadcast_to(np.array(value), (3,)) for name, value in zip(names, (*first, *other), strict=True)}
    feeds = {Explainer(path).bundle.manifest.input.name: own.images, **asked}
    result: NDArray[Any] = runtime((path / f"fused-{method.partition(':')[0]}.onnx").read_bytes(), feeds)[
        "saliency_map"
    ]
    return result


def test_of_two_rows(yolo: tuple[Made, Path]) -> None:
    """Two rows, the best rows of two classes, and two classes of one row; at the layers and at the pixels."""
    own, path = yolo
    with torch.no_grad():
        rows = own.network.rows(own.x)
    best, index = shares_of(own, rows).max(1)
    every, top = torch.arange(3), best.argmax(1)
    present = sorted(set(index.flatten().tolist()))
    a, b = (k for k in present if all((one == k).any() for one in index))  # two classes win rows of every image
    rows_of = {k: torch.where(index == k, best, -1.0).argmax(1) for k in (a, b)}
    fixed = torch.tensor([3, 50, 110])
    cases = {
        "rows": ((-1, top.numpy()), (-1, fixed.numpy()), (index[every, top], top), (index[every, fixed], fixed)),
        "classes": ((a, -1), (b, -1), (torch.full((3,), a), rows_of[a]), (torch.full((3,), b), rows_of[b])),
        "one row": (
            (0, 7),
            (2, 7),
            (torch.tensor([0] * 3), torch.tensor([7] * 3)),
            (torch.tensor([2] * 3), torch.tensor([7] * 3)),
        ),
    }
    for name, (first, other, one, two) in cases.items():

        def score(x: torch.Tensor, one: Any = one, two: Any = two) -> torch.Tensor:
            scores = own.network.rows(x)
            difference: torch.Tensor = scores[every, one[0], one[1]] - scores[every, two[0], two[1]]
            return difference

        at_layers, at_pixels = layer_cam(own, score), torch.zeros_like(own.x)
        for node in (-((1 / 3) ** 0.5), (1 / 3) ** 0.5):  # Gauss-Legendre's two points
            x = ((node + 1) / 2 * own.x).requires_grad_()
            at_pixels += torch.autograd.grad(score(x).sum(), x)[0] / 2
        for runtime in RUNTIMES:
            got = run(path, "layer-cam", runtime, own, first, other)
            np.testing.assert_allclose(got, at_layers, atol=1e-4, err_msg=name)
            got = run(path, "integrated-gradients", runtime, own, first, other)
            np.testing.assert_allclose(got, stretched((at_pixels * own.x).sum(1)), atol=1e-4, err_msg=name)


@pytest.mark.parametrize("method", METHODS[1:3] + METHODS[4:])
def test_as_the_engine(method: str, yolo: tuple[Made, Path]) -> None:
    """Relevance starts with both scores alone, and LRP with both logits, as the engine's seeds do."""
    own, path = yolo
    explainer = Explainer(path, detections=ALL)
    found = explainer.explain(own.images, "layer-cam", "box 0").detections
    numbers, others = ([one[k].row for one in found] for k in (0, 1))
    name, _, options = method.partition(":")
    given: dict[str, Any] = dict(one.split("=") for one in options.split(":") if one)
    for target, other in (("box 0 vs box 1", (-1, others)), ("box 0", (-1, NONE)), ("box 0", (NONE, others))):
        e = explainer.explain(own.images, name, target, **given)
        for runtime in RUNTIMES:
            got = run(path, method, runtime, own, (-1, numbers), other)
            np.testing.assert_allclose(got, stretched(torch.from_numpy(e.raw)), atol=1e-4, err_msg=target)
    assert not run(path, method, onnxruntime, own, (-1, NONE), (-1, others)).any()
    assert not run(path, method, onnxruntime, own, (-1, numbers), (-1, numbers)).any()


def test_rows_that_state_their_class(made: Get, tmp_path: Path) -> None:
    own = made("end-to-end")
    path = exported(own, tmp_path, ("layer-cam",))
    with torch.no_grad():
        index = own.network.chosen(own.x)[2]

    def score(x: torch.Tensor) -> torch.Tensor:
        best = own.network.chosen(x)[0]
        difference: torch.Tensor = best[:, 0] - best[:, 2]
        return difference

    for runtime in RUNTIMES:
        got = run(path, "layer-cam", runtime, own, (-1, 0), (-1, 2))
        np.testing.assert_allclose(got, layer_cam(own, score), atol=1e-4)
        got = run(path, "layer-cam", runtime, own, (index[:, 0].numpy(), 0), (index[:, 2].numpy(), 2))
        np.testing.assert_allclose(got, layer_cam(own, score), atol=1e-4)


def test_class_maps(made: Get, tmp_path: Path) -> None:
    with pytest.raises(GraphError) as refusal:
        exported(made("yolov8"), tmp_path, ("class-map",))
    assert str(refusal.value) == (
        "--fuse class-map: with --versus: a contrast of class maps is the difference of two of its maps; leave --versus out"
    )
