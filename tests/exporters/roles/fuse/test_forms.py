"""What a fused file looks like from outside: fixed target, map at the input's size, 8 bits, and all of them together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.exporters import onnx_nets as o
from tests.exporters.nets import SIZE
from xai_deploy.format.bundle import SALIENCY
from xai_deploy.preprocess import Prepared

from .harness import METHODS, ORT, RUNTIMES, Fused, compare, fuse_onnx, spoken

BOTH = ("reciprocam", "grad-cam")  # the ends of the graph are the same for every method
SOFTMAX = "reciprocam:score=softmax:mask=gaussian"


def inputs_of(case: Fused, asked: str) -> dict[str, onnx.TypeProto.Tensor]:
    return {i.name: i.type.tensor_type for i in onnx.load_from_string(case.files[asked]).graph.input}


def heatmaps(case: Fused, asked: str, target: tuple[int, ...]) -> np.ndarray:
    name, options = spoken(asked)
    return np.asarray(case.engine.explain(Prepared(case.images(len(target))), name, target=target, **options).heatmap)


def test_fixed_target(tmp_path: Path) -> None:
    case = fuse_onnx(tmp_path, o.classifier(), *METHODS, SOFTMAX, fixed_target=True)
    for asked in case.files:
        assert list(inputs_of(case, asked)) == ["image"]
        for count in (1, 3):
            x = case.images(count)
            raw = case.raw(asked, x, [-1] * count)
            for runner, tolerance in (RUNTIMES if asked in BOTH else ORT).items():
                compare(case.run(asked, x, None, runner)[SALIENCY], raw, tolerance)


def test_map_of_the_inputs_size(tmp_path: Path) -> None:
    """The engine's heatmap, which is resized before min-max."""
    case = fuse_onnx(tmp_path, o.classifier(), *METHODS, SOFTMAX, map_size="input")
    for asked in case.files:
        want = heatmaps(case, asked, (1, -1, 3))
        raw = case.raw(asked, case.images(3), (1, -1, 3))
        spread = np.maximum(np.ptp(raw, axis=(1, 2)), 1e-9)
        flat = 2.0**-20 * np.abs(raw).max(axis=(1, 2)) / spread  # rounding, as min-max enlarges it
        for runner, tolerance in (RUNTIMES if asked in BOTH else ORT).items():
            got = case.run(asked, case.images(3), (1, -1, 3), runner)[SALIENCY]
            assert got.shape == (3, *SIZE)
            assert got.dtype == np.float32
            most = np.maximum(2 * tolerance, flat)[:, None, None]
            assert (np.abs(got - want) <= most).all(), asked
            highest = got.max(axis=(1, 2))
            assert ((highest == 0) | (highest > 1 - 1e-6)).all()


def test_map_as_the_method_gives_it(tmp_path: Path) -> None:
    """The same file as without the option."""
    said = fuse_onnx(tmp_path, o.classifier(), "grad-cam", "gradient", map_size="activation")
    assert said.files == fuse_onnx(tmp_path, o.classifier(), "grad-cam", "gradient").files


@pytest.mark.parametrize("size", ["activation", "input"])
def test_eight_bits(tmp_path: Path, size: str) -> None:
    asked_for = ("reciprocam", "layer-cam", "gradient")
    case = fuse_onnx(tmp_path, o.classifier(), *asked_for, uint8=True, map_size=size)
    plain = fuse_onnx(tmp_path, o.classifier(), *asked_for, map_size=size)
    x, target = case.images(3), (1, -1, 3)
    for asked in asked_for:
        for runner in RUNTIMES:
            got = case.run(asked, x, target, runner)[SALIENCY]
            assert got.dtype == np.uint8
            want = plain.run(asked, x, target, runner)[SALIENCY] * np.float32(255)
            assert np.abs(got - want).max() <= 0.5 + 1e-3
            assert set(got.max(axis=(1, 2))) <= {0, 255}


def test_all_forms_together(tmp_path: Path) -> None:
    """uint8 images of any size in, uint8 maps of the network's size out, no target: the engine's heatmap of those images."""
    options = {"fixed_target": True, "map_size": "input", "uint8": True, "embed_preprocess": True}
    images = np.random.default_rng(1).integers(0, 256, (2, 33, 47, 3), dtype=np.uint8)
    case = fuse_onnx(tmp_path, o.classifier(), *METHODS, SOFTMAX, **options)
    for asked in case.files:
        assert list(inputs_of(case, asked)) == ["image"]
        name, settings = spoken(asked)
        want = np.rint(case.engine.explain(images, name, **settings).heatmap * 255)
        for runner in RUNTIMES if asked in BOTH else ORT:
            got = case.run(asked, images, None, runner)
            away = np.abs(got[SALIENCY] - want)
            assert away.max() <= 1, asked
            assert (away > 0).mean() < 0.03
            np.testing.assert_allclose(got["scores"], case.engine.predict(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "kind", "shape"),
    [
        ({}, onnx.TensorProto.FLOAT, ["N", 8, 10]),
        ({"map_size": "input"}, onnx.TensorProto.FLOAT, ["N", *SIZE]),
        ({"uint8": True, "map_size": "input"}, onnx.TensorProto.UINT8, ["N", *SIZE]),
    ],
)
def test_declared(tmp_path: Path, options: dict[str, object], kind: int, shape: list[object]) -> None:
    """What the file says of its inputs and of the map."""
    case = fuse_onnx(tmp_path, o.classifier(), "reciprocam", **options)
    image, target = inputs_of(case, "reciprocam").values()
    assert (image.elem_type, target.elem_type) == (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64)
    assert [d.dim_param or d.dim_value for d in image.shape.dim] == ["N", 3, *SIZE]
    assert [d.dim_param or d.dim_value for d in target.shape.dim] == ["N"]
    saliency = onnx.load_from_string(case.files["reciprocam"]).graph.output[-1]
    assert saliency.name == SALIENCY
    assert saliency.type.tensor_type.elem_type == kind
    assert [d.dim_param or d.dim_value for d in saliency.type.tensor_type.shape.dim] == shape
