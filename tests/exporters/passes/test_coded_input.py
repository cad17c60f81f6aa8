"""Images given as codes: what they stand for is read from every node that reads them, and the file's own statement decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from xai_deploy.format.bundle import Bundle

from .. import nets
from .. import onnx_nets as o
from ..checks import RUNNERS, close, reference
from ..running import HEAD_AND_TAIL, export_onnx

PIXELS = np.random.default_rng(3).integers(0, 256, (2, *nets.SHAPE)).astype(np.uint8)


def network(form: str, kind: Any, scale: float, zero: int) -> onnx.ModelProto:
    """A convolution of codes: QLinearConv, or between DequantizeLinear and QuantizeLinear, at once or after a Transpose."""
    b = o.Build(17)
    s, z = b.weight(np.float32(scale)), b.weight(np.array(zero, kind))
    w, ws = b.weight(b.rng.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8)), b.weight(np.float32(0.004))
    wz, ys, yz = b.weight(np.array(0, np.int8)), b.weight(np.float32(0.03)), b.weight(np.array(0, kind))
    x = "image"
    if "turned" in form:
        x = b("Transpose", b("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    if "QLinearConv" in form:
        y = b("QLinearConv", x, s, z, w, ws, wz, ys, yz, pads=[1] * 4)
    else:
        weight = b("DequantizeLinear", w, ws, wz)
        y = b("QuantizeLinear", b("Conv", b("DequantizeLinear", x, s, z), weight, pads=[1] * 4), ys, yz)
    y = b("Relu", b("DequantizeLinear", y, ys, yz), name="layer")
    model = b.model(b.linear(b.pooled(y), out="scores"))
    model.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    return model


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("form", ["QDQ", "QDQ, turned", "QLinearConv", "QLinearConv, turned"])
def test_normalised_images(form: str, kind: Any, tmp_path: Path) -> None:
    """--preprocess is taken, and the file's scale makes the codes; without it the export says what they stand for."""
    zero = 114 if kind == np.uint8 else -14
    model = network(form, kind, 0.0186, zero)
    told = export_onnx(tmp_path, model, preprocess=None, roles=HEAD_AND_TAIL)
    assert any("the 8-bit input stands for numbers from -2.12 to 2.62" in note for note in told.notes)
    done = export_onnx(tmp_path, model, preprocess="imagenet", roles=HEAD_AND_TAIL, overwrite=True)
    floats = ((PIXELS / 255 - 0.45) / 0.225).astype(np.float32)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    codes = np.clip(np.rint(floats / np.float32(0.0186)) + zero, low, high).astype(kind)
    model.opset_import[0].version = 21  # the reference evaluator has no DequantizeLinear of opset 17
    want = reference(model, {"image": codes})["scores"]
    bundle = Bundle.open(done.path)
    for run in RUNNERS:
        close(run(bundle.graph("tail"), run(bundle.graph("head"), {"image": floats}))["logits"], want, 0.02)


@pytest.mark.parametrize(("said", "floats"), [("Normalized_0_1", True), ("Normalized_1_1", False)])
def test_what_the_file_says(said: str, floats: bool, tmp_path: Path) -> None:
    """Codes of -1 to 1: pixels of 0 to 1 are others than the codes of pixels, and so they are normalised first."""
    model = network("QDQ", np.int8, 1 / 127.5, -1)
    for key, value in (("Image.NominalPixelRange", said), ("Image.BitmapPixelFormat", "Rgb8")):
        model.metadata_props.add(key=key, value=value)
    spec = export_onnx(tmp_path, model, preprocess=None, roles=HEAD_AND_TAIL).manifest.input
    assert spec.dtype == ("float32" if floats else "uint8")
    assert spec.preprocess.scale == pytest.approx(1 / 255 if floats else 1)


def test_a_node_that_reads_codes_as_integers(tmp_path: Path) -> None:
    """Then they stand for nothing that the file says."""
    model = network("QDQ", np.uint8, 0.0186, 114)
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["integers"], to=TensorProto.FLOAT))
    model.graph.output.append(helper.make_tensor_value_info("integers", TensorProto.FLOAT, ["N", *nets.SHAPE]))
    told = export_onnx(tmp_path, model, preprocess=None, output="scores", roles=HEAD_AND_TAIL)
    assert not any("stands for numbers" in note for note in told.notes)
