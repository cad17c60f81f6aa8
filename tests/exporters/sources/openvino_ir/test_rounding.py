"""Quantised networks against their source: `rounding.py`, `quantised.py`, and `child.py`'s part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from xai_exporters import Request
from xai_exporters.errors import VerificationError
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir import child, quantised, rounding
from xai_exporters.sources.openvino_ir.translate import translate

from .running import c, f32, floats, o, ov

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 5, 7)).astype(np.float32)


def fake(x: Any, low: Any, high: Any, out_low: Any = None, out_high: Any = None, levels: int = 256) -> Any:
    ends = [
        np.float32(v) for v in (low, high, low if out_low is None else out_low, high if out_high is None else out_high)
    ]
    return o.fake_quantize(x, *map(c, ends), levels)


def network() -> Any:
    """A convolution as NNCF quantises it (per channel, 255 levels), and a tensor that goes through int8 codes, as in QDQ files."""
    x = o.parameter([1, 3, 5, 7], np.float32, name="x")
    high = np.array([0.5, 1.0, 2.0, 3.0], np.float32).reshape(4, 1, 1, 1)
    weights = fake(floats(4, 3, 3, 3), -high, high, levels=255)
    y = o.relu(o.convolution(fake(x, -3.0, 2.5), weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    codes = o.convert(fake(y, 0.0, 5.1, -128.0, 127.0), "i8")
    again = o.multiply(o.subtract(o.convert(codes, "f32"), f32(-128)), f32(0.02))
    return ov.Model([o.reduce_mean(again, c(np.array([2, 3])), False)], [x], "net")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the child process leaves."""
    child.save_inputs([(False, IMAGES)], tmp_path)
    child._unround(network(), tmp_path, 1 << 30, {})
    return tmp_path


def compare(folder: Path) -> None:
    [output] = ir.load(folder / child.MODEL).graph.outputs
    quantised.compare_unrounded(folder, IMAGES, [str(output.name)])


def change(file: Path, number: str, by: Any) -> None:
    arrays = dict(np.load(file))
    arrays[number] = by(arrays[number])
    np.savez(file, **arrays)


def test_without_rounding(folder: Path) -> None:
    """A network of floats is left, and every rounding agrees."""
    compare(folder)
    graph = ir.load(folder / child.MODEL).graph
    assert not {"QuantizeLinear", "DequantizeLinear", "Round"} & {node.op_type for node in graph}
    values = np.load(folder / child.ROUNDINGS_IN)
    assert [values[str(i)].size for i in range(3)] == [1021, 4 * 1021, 1021]


def test_rounding_inside_a_dilated_convolution(tmp_path: Path) -> None:
    """As TensorFlow writes it: the blocks become one convolution before the roundings become lines, and all agrees."""
    x = o.parameter([1, 3, 5, 7], np.float32, name="x")
    block, begin, end = (c(np.array([0, 0, 2, 2]) + one) for one in ([1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, -1]))
    inside = o.convolution(
        fake(o.space_to_batch(x, block, begin, end), -3.0, 2.1), floats(4, 3, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1]
    )
    y = o.batch_to_space(fake(inside, -10.0, 15.5), block, *[c(np.zeros(4, np.int64))] * 2)
    child.save_inputs([(False, IMAGES)], tmp_path)
    child._unround(ov.Model([o.reduce_mean(y, c(np.array([2, 3])), False)], [x], "net"), tmp_path, 1 << 30, {})
    assert [node.op_type for node in ir.load(tmp_path / child.MODEL).graph if node.op_type == "Conv"] == ["Conv"]
    compare(tmp_path)


def test_what_openvino_drops_is_written_out() -> None:
    """FakeQuantize of 65536 levels: OpenVINO computes neither its rounding nor its range."""
    x = o.parameter([1, 3, 5, 7], np.float32)
    y = o.multiply(fake(o.multiply(x, f32(2.0)), -0.5, 0.75, -1.0, 1.5, levels=65536), f32(3.0))
    model = ov.Model([y], [x], "net")
    run = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(run(IMAGES[:1])[0], np.clip(IMAGES[:1] * 2, -0.5, 0.75) * 6, atol=1e-3)
    same = o.multiply(fake(o.multiply(x, f32(2.0)), -0.5, 0.75, levels=65536), f32(3.0))
    model = ov.Model([same], [x], "net")
    run = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(
        run(IMAGES[:1])[0], IMAGES[:1] * 6, rtol=1e-6
    )  # once it no longer does, drop `write_out`
    assert rounding.drops(model)
    [got] = child._listed(child._compiled(model)([IMAGES[:1]]))
    assert not rounding.drops(model)
    step = 1.25 / 65535
    want = (np.round((np.clip(IMAGES[:1] * 2, -0.5, 0.75) + 0.5) / step) * step - 0.5) * 3
    np.testing.assert_allclose(got, want, atol=1.01 * step * 3)
    assert np.median(np.abs(got - want)) < 1e-6


def test_a_wrong_operator_is_noticed(folder: Path) -> None:
    change(folder / child.OUTPUTS, "0", lambda y: y * 1.001)
    with pytest.raises(VerificationError, match=r"without rounding, the output '.*' differs"):
        compare(folder)


@pytest.mark.parametrize(
    "by", [lambda y: y + 0.02, lambda y: y * 1.02, lambda y: np.where(y > 1.5, y, y * 0.97), lambda y: y * np.nan]
)
def test_a_wrong_rounding_is_noticed(folder: Path, by: Any) -> None:
    change(folder / child.ROUNDINGS_OUT, "0", by)
    with pytest.raises(VerificationError, match=r"the rounding '.*' differs from OpenVINO's"):
        compare(folder)


def test_the_whole(caplog: pytest.LogCaptureFixture) -> None:
    """OpenVINO's run of the translation may differ by 5 % and by its own distance from ONNX Runtime, which is 0 here."""
    x = o.parameter([1, 3, 5, 7], np.float32, name="x")
    model = ir.to_proto(translate(ov.Model([o.relu(x)], [x], "net"), 1 << 20))
    y = np.maximum(IMAGES, 0)
    name = model.graph.output[0].name
    quantised.compare_quantised(model, IMAGES, {name: y}, {name: y}, {})
    with pytest.raises(VerificationError, match="differs from OpenVINO's run of the source"):
        quantised.compare_quantised(model, IMAGES, {name: y * 1.06}, {name: y}, {})
    quantised.compare_quantised(model, IMAGES, {name: y}, {name: y}, {name: y * 1.04})
    assert not caplog.messages
    quantised.compare_quantised(model, IMAGES, {name: y}, {name: y}, {name: y * 1.06})
    assert caplog.messages[0].startswith("OpenVINO computes the source wrongly while the size of its batch is open")


@pytest.mark.parametrize("apply", [np.multiply, np.add])
@pytest.mark.parametrize("open_size", [0, 3])
def test_the_reference_is_right_while_sizes_are_open(tmp_path: Path, apply: Any, open_size: int) -> None:
    """OpenVINO 2026.4 takes the first channel's range for all if the batch is open; of one image of fixed size it does not."""
    by = np.array([0.5, -1.0, 2.0], np.float32).reshape(1, 3, 1, 1)
    shape = [1, 3, 5, 7]
    shape[open_size] = -1
    x = o.parameter(shape, np.float32, name="x")
    y = o.multiply(x, c(by)) if apply is np.multiply else o.add(x, c(by))
    path = tmp_path / "net.xml"
    ov.save_model(ov.Model([fake(y, -1.0, 1.0)], [x], "net"), path, compress_to_fp16=False)
    reference = load_source(Request(path, input_shape=(3, 5, 7))).reference
    assert reference is not None
    [got] = reference(IMAGES).values()
    want = np.rint((np.clip(apply(IMAGES, by), -1, 1) + 1) / 2 * 255) / 255 * 2 - 1
    assert np.abs(got - want).max() <= 2 / 255 + 1e-6
    assert (np.abs(got - want) > 1e-6).mean() < 0.02  # rounding between two codes


def test_no_roundings_of_ranges_that_depend_on_the_image() -> None:
    x = o.parameter([1, 3, 5, 7], np.float32, name="x")
    high = o.reduce_max(o.abs(x), c(np.array([1, 2, 3])), True)
    model = ov.Model([o.fake_quantize(x, o.negative(high), high, o.negative(high), high, 256)], [x], "net")
    assert rounding.roundings(model)[1] == []
