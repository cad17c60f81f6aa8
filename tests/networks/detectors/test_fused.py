"""Fused graphs of detectors: the row that is chosen, and its map, against autograd on the live network and against the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from xai_exporters import Request, export
from xai_exporters.errors import ExportError

from tests.exporters.checks import open_vino
from tests.exporters.roles.fuse.harness import onnxruntime
from xai_deploy import Explainer
from xai_deploy.foundation.options import read_spec
from xai_deploy.regions import Regions
from xai_deploy.targets.seeds import Seed

from . import nets
from .conftest import ALL, Made
from .test_layouts import gradients, shares_of

Get = Callable[[str], Made]
RUNTIMES = (onnxruntime, open_vino)
METHODS = ("layer-cam", "relevance-cam:combine=mean", "integrated-gradients:steps=2")
ENGINE = (*METHODS[:2], "reciprocam:score=logit:layer=2")


@pytest.fixture(scope="module")
def fused(made: Get, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a detector -> its bundle with fused graphs."""

    @lru_cache
    def get(name: str) -> Path:
        more = {"fuse": (*METHODS, ENGINE[-1]), "roles": ("gradient", "relevance")} if name == "yolov8" else {}
        repository = "triton" if name == "yolov8" else "ovms" if name == "detr" else None
        decoder = name if name.startswith("detr") else "auto"
        options: dict[str, Any] = {"fuse": ("layer-cam",), "roles": ("gradient",), "decoder": decoder, **more}
        folder = tmp_path_factory.mktemp("fused") / "net.xai"
        if repository is not None:
            options["serve_repo"] = repository, folder.parent / repository
        return export(Request(made(name).source, output_path=folder, preprocess="none", **options)).path

    return get


def run(path: Path, method: str, runtime: Any, x: NDArray[Any], target: list[int], row: list[int]) -> Mapping[str, Any]:
    """The results of a fused graph, by name."""
    image = Explainer(path).bundle.manifest.input.name
    feeds = {image: x, "target": np.array(target), "row": np.array(row)}
    results: Mapping[str, Any] = runtime((path / f"fused-{method.partition(':')[0]}.onnx").read_bytes(), feeds)
    return results


def stretched(maps: torch.Tensor) -> torch.Tensor:
    """[n,h,w] from 0 to 1; constant maps are zeros."""
    shifted = maps - maps.amin((1, 2), keepdim=True)
    return shifted / shifted.amax((1, 2), keepdim=True).clamp(min=1e-38)


def layer_cam(own: Made, score: Callable[[torch.Tensor], torch.Tensor], resized: bool = True) -> NDArray[Any]:
    """LayerCAM of all levels by autograd: each resized and scaled, then their maximum; or of the last level, as it is."""
    if not resized:
        a, g = gradients(own, score)[-1]
        return np.asarray(stretched((g.relu() * a).sum(1).relu()).detach())
    levels = [
        stretched(F.interpolate((g.relu() * a).sum(1, keepdim=True).relu(), nets.SIZE, mode="bilinear")[:, 0])
        for a, g in gradients(own, score)
        if g is not None
    ]
    return np.asarray(stretched(torch.stack(levels).amax(0)).detach())


@pytest.mark.parametrize("name", ["yolov8", "boxes-scores", "yolov5", "detr", "yolox", "picodet", "detr-sigmoid"])
def test_the_best_row_of_a_class(name: str, made: Get, fused: Callable[[str], Path]) -> None:
    """LayerCAM of the row in which the class is the best one and most probable."""
    own, path = made(name), fused(name)
    levels = len(Explainer(path).bundle.manifest.layers)
    with torch.no_grad():
        rows = own.network.rows(own.x)
    best, index = shares_of(own, rows).max(1)
    asked = int(index.flatten()[best.argmax()])  # the class of the best row of all images
    wanted = torch.where(index == asked, best, -1.0).argmax(1)
    there = (index == asked).any(1).double()

    def score(x: torch.Tensor) -> torch.Tensor:
        picked: torch.Tensor = own.network.rows(x)[torch.arange(3), asked, wanted] * there
        return picked

    expected = layer_cam(own, score, levels > 1)
    for runtime in RUNTIMES:
        result = run(path, "layer-cam", runtime, own.images, [asked] * 3, [-1] * 3)
        saliency = result["saliency_map"]
        np.testing.assert_allclose(saliency, expected, atol=1e-4)
        assert saliency.any(axis=(1, 2)).tolist() == there.bool().tolist()
        by_row = run(path, "layer-cam", runtime, own.images, [asked] * 3, wanted.tolist())["saliency_map"]
        np.testing.assert_allclose(by_row[there.bool()], saliency[there.bool()], atol=1e-6)
        top = best.argmax(1)  # of all classes; the background is none
        of_top = run(path, "layer-cam", runtime, own.images, index[torch.arange(3), top].tolist(), top.tolist())
        by_default = run(path, "layer-cam", runtime, own.images, [-1] * 3, [-1] * 3)["saliency_map"]
        np.testing.assert_allclose(by_default, of_top["saliency_map"], atol=1e-6)
        alone = run(path, "layer-cam", runtime, own.images[1:2], [asked], [-1])
        np.testing.assert_allclose(alone["saliency_map"][0], saliency[1], atol=1e-5)
        with torch.no_grad():
            plain = own.network(own.x)
        first = plain[0] if isinstance(plain, tuple) else plain
        assert any(
            value.shape == tuple(first.shape) and np.allclose(value, first, atol=1e-3) for value in result.values()
        )


def test_any_row(made: Get, fused: Callable[[str], Path]) -> None:
    """A row that no class chooses, its best class, and another one of its classes; no such row or class: zeros."""
    own, path = made("yolov8"), fused("yolov8")
    with torch.no_grad():
        rows = own.network.rows(own.x)
    picked = torch.tensor([3, 50, 110])
    classes = rows[torch.arange(3), :3, picked].argmax(1)
    for target, chosen in ((-1, classes), (2, torch.tensor([2, 2, 2]))):

        def score(x: torch.Tensor, chosen: torch.Tensor = chosen) -> torch.Tensor:
            scores: torch.Tensor = own.network.rows(x)[torch.arange(3), chosen, picked]
            return scores

        expected = layer_cam(own, score)
        for runtime in RUNTIMES:
            got = run(path, "layer-cam", runtime, own.images, [target] * 3, picked.tolist())["saliency_map"]
            np.testing.assert_allclose(got, expected, atol=1e-4)
    for targets, asked in (([3, 99, -5], [-1, -1, -1]), ([-1, 0, 0], [120, -2, 1 << 40])):
        assert not run(path, "layer-cam", onnxruntime, own.images, targets, asked)["saliency_map"].any()


@pytest.mark.parametrize("method", ENGINE)
def test_every_method_is_the_engines(method: str, fused: Callable[[str], Path], made: Get) -> None:
    own, path = made("yolov8"), fused("yolov8")
    for runtime, backend in zip(RUNTIMES, ("onnxruntime", "openvino"), strict=True):
        name, options = read_spec(method)
        e = Explainer(path, backend, detections=ALL).explain(own.images, name, "box 0", **options)
        got = run(path, method, runtime, own.images, [-1] * 3, [-1] * 3)["saliency_map"]
        np.testing.assert_allclose(got, stretched(torch.from_numpy(e.raw)), atol=1e-4)


def test_at_the_pixels(fused: Callable[[str], Path], made: Get) -> None:
    """Integrated gradients sum the gradients of the row that the image itself has: two steps by autograd."""
    own, path = made("yolov8"), fused("yolov8")
    with torch.no_grad():
        rows = own.network.rows(own.x)
    flat = rows[:, :3].flatten(1).argmax(1)
    index, row = flat // rows.shape[2], flat % rows.shape[2]
    total = torch.zeros_like(own.x)
    for node in (-((1 / 3) ** 0.5), (1 / 3) ** 0.5):  # Gauss-Legendre's two points
        x = ((node + 1) / 2 * own.x).requires_grad_()
        total += torch.autograd.grad(own.network.rows(x)[torch.arange(3), index, row].sum(), x)[0] / 2
    expected = stretched((total * own.x).sum(1))
    for runtime in RUNTIMES:
        got = run(path, METHODS[2], runtime, own.images, [-1] * 3, [-1] * 3)["saliency_map"]
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_rows_that_the_graph_chooses(fused: Callable[[str], Path], made: Get) -> None:
    """An end-to-end head states the class of each row: the first row of the class, and a row of another class gives zeros."""
    own, path = made("end-to-end"), fused("end-to-end")
    with torch.no_grad():
        index = own.network.chosen(own.x)[2]
    asked = int(index[0, 1])
    for runtime in RUNTIMES:
        for row, wanted in ((-1, 0), (2, 2)):

            def score(x: torch.Tensor, wanted: int = wanted) -> torch.Tensor:
                best: torch.Tensor = own.network.chosen(x)[0]
                return best[:, wanted]

            got = run(path, "layer-cam", runtime, own.images, [-1] * 3, [row] * 3)["saliency_map"]
            expected = layer_cam(own, score)
            np.testing.assert_allclose(got, expected, atol=1e-4)
        first = [(one == asked).tolist().index(True) if (one == asked).any() else -1 for one in index]
        got = run(path, "layer-cam", runtime, own.images, [asked] * 3, [-1] * 3)["saliency_map"]
        for i, place in enumerate(first):
            same = run(path, "layer-cam", runtime, own.images[i : i + 1], [-1], [max(place, 0)])["saliency_map"][0]
            np.testing.assert_allclose(got[i], same * (place >= 0), atol=1e-6)
        other = (int(index[0, 0]) + 1) % nets.CLASSES
        assert not run(path, "layer-cam", runtime, own.images[:1], [other], [0])["saliency_map"].any()


def test_relevance_starts_at_classes() -> None:
    """Relevance-CAM's contrast gives the other classes of the row a weight, and the coordinates of its box none."""
    regions = Regions(7, np.ones((1, 1, 5), np.float32), compared=3)
    np.testing.assert_array_equal(
        regions.weights(Seed.of_class(np.array([1])), -0.25), [[-0.25, 0.75, -0.25, 0, 0, 0, 0]]
    )


def test_repositories(fused: Callable[[str], Path]) -> None:
    """Triton's config states both questions and both answers; the file in both repositories is the bundle's."""
    models = fused("yolov8").parent / "triton"
    config = (models / "net-layer-cam" / "config.pbtxt").read_text()
    for name, kind, dims in (("target", "INT64", "1"), ("row", "INT64", "1"), ("saliency_map", "FP32", "64, 96")):
        assert f'name: "{name}"\n    data_type: TYPE_{kind}\n    dims: [ {dims} ]' in config
    for path, kind in ((fused("yolov8"), "triton"), (fused("detr"), "ovms")):
        served = path.parent / kind / "net-layer-cam" / "1" / "model.onnx"
        assert served.read_bytes() == (path / "fused-layer-cam.onnx").read_bytes()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            "reciprocam:score=probability",
            "--fuse reciprocam: a masked image has other boxes, .*; use the engine, or fuse with",
        ),
        ("cam", "--fuse cam: CAM is defined only if global average pooling"),
    ],
)
def test_refused(method: str, said: str, made: Get, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=said):
        export(Request(made("yolov8").source, output_path=tmp_path / "x.xai", preprocess="none", fuse=(method,)))
    assert not list(tmp_path.iterdir())
