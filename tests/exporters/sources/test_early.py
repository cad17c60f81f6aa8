"""What no pass will change is refused before any runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import xai_exporters.pipeline
from onnx import helper
from xai_exporters.errors import ExportError, GraphError, RequestError
from xai_exporters.pipeline import list_layers

from .. import onnx_nets as o
from ..running import export_onnx, left_behind, onnx_request


def two_outputs() -> onnx.ModelProto:
    b = o.Build()
    x = b.pooled(b.features())
    return b.model(b.linear(x, out="scores"), b.linear(x, out="others"))


def unknown() -> onnx.ModelProto:
    b = o.Build()
    return b.model(b.linear(b.pooled(b("MyRelu", b.features(), name="mine")), out="scores"))


def sequence() -> onnx.ModelProto:
    b = o.Build()
    scores = b("SequenceConstruct", b.linear(b.pooled(b.features())), out="scores")
    model = b.model(scores)
    model.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("scores", o.FLOAT, None))
    return model


def texts() -> onnx.ModelProto:
    b = o.Build()
    return b.model(b("Identity", "image", out="scores"), dtype=onnx.TensorProto.STRING)


def other_floats(kind: int) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        model = o.classifier()
        weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
        weight.CopyFrom(helper.make_tensor(weight.name, kind, list(weight.dims), [1.0] * int(np.prod(weight.dims))))
        return model

    return make


def merged() -> onnx.ModelProto:
    """As PyTorch's exporter merges BatchNorm into a convolution of bfloat16: an image of bfloat16, weights of float32."""
    model = o.classifier()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    return model


def experimental() -> onnx.ModelProto:
    b = o.Build(6)
    scaled = b("GivenTensorFill", "image", name="scale")
    x = b("Flatten", b("GlobalAveragePool", b("Relu", b.conv(scaled, 3, 6))))
    return b.model(b("Gemm", x, b.draw(6, 5), b.draw(5), broadcast=1, out="scores"))


def newer() -> onnx.ModelProto:
    model = o.classifier()
    model.opset_import[0].version = 99
    return model


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "double": (
        other_floats(onnx.TensorProto.DOUBLE),
        r"computes in DOUBLE \(the weight 'w0'\).* export it in float32",
    ),
    "bfloat16": (other_floats(onnx.TensorProto.BFLOAT16), r"computes in BFLOAT16 \(the weight 'w0'\)"),
    "bfloat16-merged": (merged, r"computes in BFLOAT16 \(the convolution '.+'\).* export it in float32 or float16"),
    "outputs": (two_outputs, "several outputs; choose one with --output: scores, others"),
    "sequence": (sequence, "the output 'scores' is no tensor but a sequence; export scores as one tensor"),
    "texts": (texts, "the input 'image' holds texts"),
    "experimental": (experimental, r"node 'scale' is GivenTensorFill of an opset before 7, which was experimental"),
    "opset": (newer, "the model has opset 99, newer than the onnx package here knows"),
    "operator": (
        unknown,
        r"node 'mine' is 'MyRelu', which ONNX does not have in opset 18: .* export the network in standard ONNX operators",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_before_any_pass(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a pass ran")

    monkeypatch.setattr(xai_exporters.pipeline, "clean", never)
    build, told = CASES[case]
    with pytest.raises(ExportError, match=told):
        export_onnx(tmp_path, build())
    with pytest.raises(ExportError, match=told):
        list_layers(onnx_request(tmp_path, build()))
    assert left_behind(tmp_path) == []


def test_rows_of_no_known_layout(tmp_path: Path) -> None:
    """Two outputs of rows that are no boxes: the line names both ways out."""
    b = o.Build()
    rows = b("Reshape", b.features(), b.weight([0, 80, 6]))
    outputs = [b("Identity", rows, out=name) for name in ("scores", "boxes")]
    with pytest.raises(
        ExportError, match=r"choose one with --output: scores, boxes; their rows .* no detector, unless --decoder"
    ):
        export_onnx(tmp_path, b.model(*outputs, ranks=dict.fromkeys(outputs, (o.FLOAT, ("n", 80, 6)))))


@pytest.mark.parametrize("shown", [False, True])
def test_maps_of_a_detector(shown: bool, tmp_path: Path) -> None:
    """YOLO's heads, maps at several strides: no decoder reads them, and the line says what to do, before any pass or after."""
    b = o.Build()
    x = b.features()
    outputs = [b("AveragePool", x, kernel_shape=[i, i], strides=[i, i], out=f"p{i}") for i in (1, 2)]
    rows = [] if shown else [b("Reshape", x, b.weight([0, 6, -1]), out="rows")]
    ranks = dict.fromkeys(outputs, (o.FLOAT, ("n", 6, "h", "w"))) | dict.fromkeys(rows, (o.FLOAT, ("n", 6, "r")))
    named = "p1, p2;" if shown else "p1, p2, rows; their rows are read .* a layout;"
    with pytest.raises(
        RequestError,
        match=rf"choose one with --output: {named} if its maps are a detector's, export it with decoded boxes$",
    ):
        export_onnx(tmp_path, b.model(*outputs, *rows, ranks=ranks))


@pytest.mark.parametrize("further", [False, True])
def test_the_shape_is_said(further: bool, tmp_path: Path) -> None:
    """A detector's rows; another output is named only if it has scores."""
    b = o.Build()
    features = b.features()
    rows = b("Reshape", features, b.weight([0, 80, 6]), out="rows")
    outputs = [rows, b("Identity", rows, out="boxes"), b.linear(b.pooled(features), out="scores")][: 2 + further]
    ranks = dict.fromkeys(("rows", "boxes"), (o.FLOAT, ("n", 80, 6)))
    with pytest.raises(GraphError) as error:
        export_onnx(tmp_path, b.model(*outputs, ranks=ranks), output="rows")
    assert "has shape [N, 80, 6]" in str(error.value)
    assert ("name another with --output (scores)" in str(error.value)) == further


def test_a_shape_without_a_batch_is_said(tmp_path: Path) -> None:
    b = o.Build()
    scores = b.linear(b.pooled(b.features()))
    x = b("ReduceMean", scores, b.weight([0]), keepdims=0, out="mean")
    with pytest.raises(GraphError, match=r"'mean' has shape \[5\]"):
        export_onnx(tmp_path, b.model(x, ranks={"mean": (o.FLOAT, ("m",))}))
