"""What a bundle may not hold is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from xai_exporters.errors import GraphError
from xai_exporters.passes.supported import require_standard_ops

from .. import onnx_nets as o
from ..running import export_onnx, left_behind


def custom() -> onnx.ModelProto:
    b = o.Build()
    x = b("IsAllFinite", b.features(), domain="com.microsoft", name="fused")
    return b.model(b.linear(b.pooled(x), out="scores"), imports=[helper.make_opsetid("com.microsoft", 1)])


def test_a_node_without_a_name_is_called_by_its_output() -> None:
    model = custom()
    next(node for node in model.graph.node if node.name == "fused").name = ""
    with pytest.raises(GraphError, match=r"^the node that gives 'fused_out' is com\.microsoft\.IsAllFinite"):
        require_standard_ops(ir.from_proto(model))


def control_flow() -> onnx.ModelProto:
    b = o.Build()
    features = b.features()
    condition = b("Greater", b("ReduceSum", "image", keepdims=0), b.weight(0.0))
    b.nodes.append(helper.make_node("Cast", [condition], ["yes"], to=onnx.TensorProto.BOOL))
    out = [helper.make_tensor_value_info("branch", o.FLOAT, None)]
    same = helper.make_graph([helper.make_node("Identity", [features], ["branch"])], "then", [], out)
    other = helper.make_graph([helper.make_node("Neg", [features], ["branch"])], "else", [], out)
    x = b("If", "yes", name="choice", then_branch=same, else_branch=other)
    return b.model(b.linear(b.pooled(x), out="scores"))


def test_chance(tmp_path: Path) -> None:
    """As torch writes a dropout in training mode."""
    b = o.Build()
    x = b.features()
    x = b(
        "Mul",
        x,
        b("Cast", b("Greater", b("RandomUniformLike", x, name="drawn"), b.weight(np.float32(0.5))), to=o.FLOAT),
    )
    with pytest.raises(
        GraphError, match="node 'drawn' is RandomUniformLike, which draws random numbers: each run gives other scores"
    ):
        export_onnx(tmp_path, b.model(b.linear(b.pooled(x), out="scores")))


@pytest.mark.parametrize("op", ["EPContext", "Snpe"])
def test_compiled_for_one_machine(op: str, tmp_path: Path) -> None:
    """As ONNX Runtime writes a network that an execution provider compiled (ep.context_enable)."""
    b = o.Build()
    b(op, "image", out="scores", domain="com.microsoft", name="compiled")
    model = b.model("scores", imports=[helper.make_opsetid("com.microsoft", 1)])
    with pytest.raises(
        GraphError, match=r"compiled for one execution provider; give the ONNX file that it was compiled"
    ):
        export_onnx(tmp_path, model)


def test_a_loss(tmp_path: Path) -> None:
    b = o.Build()
    scores = b.linear(b.pooled(b.features()))
    b("SoftmaxCrossEntropyLoss", scores, b.weight(np.zeros(1, np.int64)), out="loss", name="loss")
    with pytest.raises(
        GraphError, match=r"^node 'loss' is SoftmaxCrossEntropyLoss, a loss, which is for training; export "
    ):
        export_onnx(tmp_path, b.model("loss"))


@pytest.mark.parametrize("op", ["SequenceAt", "SequenceInsert"])
def test_lists(op: str, tmp_path: Path) -> None:
    """At a place that depends on the image; other lists are resolved (`sequences`)."""
    b = o.Build()
    x = b.features()
    place = b(
        "Cast", b("Greater", b("ReduceMax", "image", keepdims=0), b.weight(np.float32(9))), to=onnx.TensorProto.INT64
    )
    items = b("SequenceConstruct", x, x, name="odd")
    x = b(op, items, place) if op == "SequenceAt" else b("ConcatFromSequence", b(op, items, x, place), axis=1)
    model = b.model(b.linear(b.pooled(x), out="scores"))
    with pytest.raises(GraphError, match=r"is Sequence[A-Za-z]*: a graph of a bundle holds tensors alone"):
        export_onnx(tmp_path, model)


def test_custom_operator(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"node 'fused' is com\.microsoft\.IsAllFinite, which only some runtimes know"):
        export_onnx(tmp_path, custom())
    assert left_behind(tmp_path) == []


def test_control_flow(tmp_path: Path) -> None:
    with pytest.raises(
        GraphError, match="node 'choice' is If: control flow can't be cut or differentiated, and this one depends"
    ):
        export_onnx(tmp_path, control_flow())


@pytest.mark.parametrize("model", [o.classifier, o.residual, o.keras, o.quantised, o.channels_last])
def test_standard_operators_pass_unchanged(model: object) -> None:
    assert callable(model)
    held = ir.from_proto(model())
    before = ir.to_proto(held).SerializeToString(deterministic=True)
    require_standard_ops(held)
    assert ir.to_proto(held).SerializeToString(deterministic=True) == before


def test_unused_import_of_another_domain_is_dropped(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, o.classifier(imports=[helper.make_opsetid("com.microsoft", 1)]))
    for file in done.path.glob("*.onnx"):
        assert [i.domain for i in onnx.load(file).opset_import] == [""]


@pytest.mark.parametrize(
    ("domain", "op", "told"),
    [
        ("qonnx.custom_op.general", "Quant", r"qonnx.custom_op.general.Quant, QONNX's.*export_onnx_qcdq"),
        (
            "qonnx.custom_op.general",
            "FloatQuant",
            r"FloatQuant, QONNX.s rounding to floats of a few bits, which has no QDQ form",
        ),
        ("com.amd.quark", "BFPQuantizeDequantize", "AMD Quark's; its block formats"),
        ("com.microsoft", "DynamicQuantizeLSTM", "LSTM on integers.*leave LSTM out of quantize_dynamic"),
        ("onnx.brevitas", "Quant", "brevitas' own.*export_onnx_qcdq"),
        (
            "com.microsoft",
            "QAttention",
            "com.microsoft.QAttention, quantised in ONNX Runtime's own form.*QuantFormat.QDQ",
        ),
        ("com.microsoft", "MatMulNBits", "quantised in ONNX Runtime's own form"),
        ("com.microsoft", "Inverse", "without a runtime's own optimisation"),
        ("com.microsoft.nchwc", "Conv", "written for one machine.*optimise with ORT_ENABLE_EXTENDED"),
        ("com.ms.internal.nhwc", "Conv", "written for one execution provider"),
        ("ai.onnx.ml", "TreeEnsembleClassifier", "for trees"),
    ],
)
def test_whose_an_operator_is(domain: str, op: str, told: str) -> None:
    b = o.Build()
    model = b.model(b(op, "image", domain=domain, out="out"))
    with pytest.raises(GraphError, match=told):
        require_standard_ops(ir.from_proto(model))
