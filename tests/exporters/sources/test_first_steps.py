"""The order of colours that a graph's first steps show: a photo's logits are those of the graph on the planes that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from xai_exporters import Request, export

from xai_deploy import Explainer

from .. import onnx_nets as o
from ..checks import close, onnxruntime
from ..running import HEAD_AND_TAIL
from .openvino_ir.running import ov

SIZE = (18, 14)
IMAGENET, CAFFE = (0.485, 0.456, 0.406), (103.939, 116.779, 123.68)
STD = (0.229, 0.224, 0.225)


def network(form: str, kind: int) -> onnx.ModelProto:
    """Pixels of 0 to 255, prepared in the graph."""
    b = o.Build(18)

    def three(numbers: tuple[float, ...]) -> str:
        return b.weight(np.array(numbers, np.float32).reshape(1, 3, 1, 1))

    def reversed_(x: str) -> str:
        if "slice" in form:
            return b("Slice", x, *(b.weight([n]) for n in (-1, -(2**31), 1, -1)))
        return b("Gather", x, b.weight([2, 1, 0]), axis=1)

    x = b("Cast", "image", to=TensorProto.FLOAT) if kind != TensorProto.FLOAT else "image"
    if "unit" in form:
        x = b("Mul", x, b.weight(np.float32(1 / 255)))
    if form.startswith("bgr") and "grey" not in form:  # what is read in BGR is turned for a network of RGB
        x = reversed_(x)
    if "caffe" in form:
        x = reversed_(x) if form.startswith("turned") else x
        x = b("Sub", x, three(CAFFE))
    elif "grey" in form:
        x = b("Conv", x, three((0.114, 0.587, 0.299) if form.startswith("bgr") else (0.299, 0.587, 0.114)))
    else:
        x = b("Div", b("Sub", x, three(IMAGENET)), three(STD))
    if "pad" in form:
        x = b("Pad", x, b.weight([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect")
    y = b("Relu", b.conv(x, 1 if "grey" in form else 3, 6), name="layer")
    y = b("Relu", b.conv(y, 6, 6))
    model = b.model(b.linear(b.pooled(y), out="scores"), shape=("N", 3, *SIZE))
    model.graph.input[0].type.tensor_type.elem_type = kind
    return model


CASES = {  # the steps -> the order of the planes that the graph takes
    "bgr, unit": "BGR",
    "bgr, unit, slice": "BGR",
    "bgr, unit, pad": "BGR",
    "unit": "RGB",
    "caffe": "BGR",
    "turned, caffe": "RGB",
    "turned, caffe, slice": "RGB",
}


@pytest.mark.parametrize("file", ["net.onnx", "net.xml"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8])
@pytest.mark.parametrize("form", CASES)
def test_the_order_of_colours(form: str, kind: int, file: str, tmp_path: Path) -> None:
    model = network(form, kind)
    onnx.save(model, tmp_path / "net.onnx")
    if file == "net.xml":
        ov.save_model(ov.convert_model(tmp_path / "net.onnx"), tmp_path / file, compress_to_fp16=False)
    done = export(Request(tmp_path / file, output_path=tmp_path / "net.xai", roles=HEAD_AND_TAIL))
    how = done.manifest.input.preprocess
    assert (how.color, how.scale, how.assumed) == (CASES[form], 1, True)
    assert any("shows the order of colours" in note for note in done.notes)
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    planes: Any = photo if CASES[form] == "RGB" else photo[..., ::-1]
    given = planes.transpose(2, 0, 1)[None].astype(np.uint8 if kind == TensorProto.UINT8 else np.float32)
    want = onnxruntime(model.SerializeToString(), {"image": np.ascontiguousarray(given)})["scores"]
    close(Explainer(done.path, "onnxruntime").predict(photo), want, 1e-4)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_weights_of_grey(order: str, tmp_path: Path) -> None:
    onnx.save(network(f"{order}, grey", TensorProto.UINT8), tmp_path / "net.onnx")
    done = export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", roles=HEAD_AND_TAIL))
    assert done.manifest.input.preprocess.color == order.upper()
    assert any("its weights of grey show the order of colours" in note for note in done.notes)
