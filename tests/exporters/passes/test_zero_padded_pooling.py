"""A Pad with zeros before a MaxPool: both runtimes give max(x, 0) at the border, as ONNX's reference does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator
from xai_exporters import Request, export
from xai_exporters.errors import VerificationError
from xai_exporters.passes.clean import clean

from ..checks import onnxruntime, open_vino

IMAGES = np.random.default_rng(0).random((3, 2, 5, 6)).astype(np.float32)
PADS = np.array([0, 0, 1, 0, 0, 0, 1, 2])


def pooled(first: str, opset: int, mode: str = "constant", value: Any = None) -> onnx.ModelProto:
    constants: dict[str, Any] = {"pads": PADS} | ({} if value is None else {"value": np.float32(value)})
    nodes = [
        helper.make_node(first, ["image"], ["before"]),
        helper.make_node("Pad", ["before", *constants], ["padded"], mode=mode),
        helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[3, 3], strides=[2, 1]),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 2, 5, 6])
    initializers = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [y], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(
    ("first", "opset", "value"), [("Neg", 13, None), ("Neg", 18, 0.0), ("Neg", 18, -0.5), ("Neg", 18, -np.inf)]
)
def test_as_the_reference(first: str, opset: int, value: float | None) -> None:
    source = pooled(first, opset, value=value)
    [want] = ReferenceEvaluator(source).run(None, {"image": IMAGES})
    model = ir.to_proto(clean(source, None).model).SerializeToString()
    for run in (onnxruntime, open_vino):
        np.testing.assert_array_equal(run(model, {"image": IMAGES})["y"], want)


@pytest.mark.parametrize(
    ("first", "mode", "value", "apart"),
    [("Neg", "constant", 0.0, True), ("Neg", "constant", -np.inf, False), ("Relu", "constant", 0.0, False),
     ("Neg", "edge", None, False)],
)  # fmt: skip
def test_only_what_needs_it_is_changed(first: str, mode: str, value: float | None, apart: bool) -> None:
    graph = clean(pooled(first, 18, mode, value), None).graph
    assert any(node.op_type == "Clip" for node in graph) == apart


class Stem(torch.nn.Module):
    """As BiT begins: no activation before the pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.head = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3), torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.pad(-self.conv(x).abs(), (1, 1, 1, 1))
        x = self.last(torch.nn.functional.max_pool2d(x, 3, 2)).relu()
        return torch.Tensor(self.head(x.mean((2, 3))))


@pytest.mark.parametrize("mended", [True, False])
def test_an_optimiser_that_computes_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    torch.manual_seed(0)
    torch.save(Stem().eval(), tmp_path / "net.pt")
    request = Request(tmp_path / "net.pt", output_path=tmp_path / "net.xai", trust_code=True, input_shape=(3, 12, 13),
                      preprocess="unit")  # fmt: skip
    if mended:
        assert export(request).verified.source <= 1e-5
        return
    monkeypatch.setattr("xai_exporters.passes.clean.separate_zero_padding", lambda model: False)
    says = r"^ONNX Runtime 1\.\d+\.\d+ computes head and tail differently from ONNX Runtime without optimisations: its logits"
    with pytest.raises(VerificationError, match=says):
        export(request)
