"""What is computed but always the same becomes a constant; what depends on image or batch does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional
from xai_exporters.passes.fixed_values import fold_fixed_values

from xai_deploy import Explainer

from ..running import both_ways, export_onnx


def padded(pads: list[Any], constants: dict[str, Any]) -> ir.Model:
    """image [N,2,4,4] padded by what `pads` compute."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 2, 4, 4])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    nodes = [*pads, helper.make_node("Pad", ["image", "pads"], ["output"], name="pad")]
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [image], [output], weights)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


def pads_of(model: ir.Model) -> Any:
    value = model.graph.outputs[0].producer().inputs[1]  # type: ignore[union-attr]
    assert value is not None
    return None if value.const_value is None else value.const_value.numpy()


def test_pads_made_by_constant_of_shape() -> None:
    zeros = helper.make_node(
        "ConstantOfShape", ["four"], ["zeros"], value=helper.make_tensor("v", TensorProto.INT64, [1], [0])
    )
    joined = helper.make_node("Concat", ["ones", "zeros"], ["pads"], axis=0)
    model = padded([zeros, joined], {"four": np.array([4]), "ones": np.array([0, 0, 1, 1])})
    assert fold_fixed_values(model)
    np.testing.assert_array_equal(pads_of(model), [0, 0, 1, 1, 0, 0, 0, 0])


def test_an_entry_of_a_shape_that_is_not_the_batch() -> None:
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["height"]),
        helper.make_node("Mul", ["height", "mask"], ["pads"]),
    ]
    model = padded(nodes, {"two": np.array([2]), "mask": np.array([0, 0, 1, 0, 0, 0, 0, 1])})
    assert fold_fixed_values(model)
    np.testing.assert_array_equal(pads_of(model), [0, 0, 4, 0, 0, 0, 0, 4])


def test_the_batch_and_the_image_stay() -> None:
    batch = [
        helper.make_node("Shape", ["image"], ["shape"], start=0, end=1),
        helper.make_node("Mul", ["shape", "mask"], ["pads"]),
    ]
    content = [
        helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["integer"], to=TensorProto.INT64),
        helper.make_node("Mul", ["integer", "mask"], ["pads"]),
    ]
    for nodes in (batch, content):
        model = padded(nodes, {"mask": np.array([0, 0, 1, 0, 0, 0, 0, 1])})
        assert not fold_fixed_values(model)
        assert pads_of(model) is None


class Standardised(torch.nn.Module):
    """Convolutions whose weights are standardised in the graph: by a batch norm (timm's StdConv2d), or written out."""

    def __init__(self, by_batch_norm: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.by_batch_norm = by_batch_norm
        self.kernel = torch.nn.Parameter(torch.randn(64, 3, 5, 5))
        self.deep = torch.nn.Parameter(torch.randn(64, 64, 3, 3))
        self.classifier = torch.nn.Linear(64, 4)

    def standardised(self, kernel: torch.Tensor) -> torch.Tensor:
        if self.by_batch_norm:
            flat = kernel.reshape(1, len(kernel), -1)
            return functional.batch_norm(flat, None, None, training=True, momentum=0.0).reshape(kernel.shape)
        variance, mean = torch.var_mean(kernel, dim=(1, 2, 3), keepdim=True, correction=0)
        return (kernel - mean) * torch.rsqrt(variance + 1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.conv2d(x, self.standardised(self.kernel) / 8, stride=2).relu()
        x = functional.conv2d(x, self.standardised(self.deep) / 24, stride=2).relu()
        y: torch.Tensor = self.classifier(x.mean((2, 3)))
        return y


@pytest.mark.parametrize("by_batch_norm", [True, False])
def test_standardised_weights_are_computed_once(tmp_path: Path, by_batch_norm: bool) -> None:
    """OpenVINO computed BiT's gradient wrongly while its weights were made in the graph."""
    network = Standardised(by_batch_norm).eval()
    model = both_ways(network, False, (3, 33, 41))
    done = export_onnx(tmp_path, model, preprocess="none", input_gradient=True)
    for role in ("head", "input-gradient"):
        graph = onnx.load(done.path / f"{role}.onnx").graph
        made = {name for node in graph.node for name in node.output}
        assert not [
            node.name
            for node in graph.node
            if node.op_type == "Conv" and node.input[1] in made and "gradient" not in node.name
        ]
        assert "BatchNormalization" not in {node.op_type for node in graph.node}
    x = np.random.default_rng(0).standard_normal((3, 3, 33, 41)).astype(np.float32)
    given = torch.from_numpy(x).double().requires_grad_()
    [want] = torch.autograd.grad(network.double()(given)[:, 2].sum(), given)
    for backend in ("onnxruntime", "openvino"):
        got = Explainer(done.path, backend).explain(x, "gradient", 2, channels="sum").raw
        np.testing.assert_allclose(got, want.sum(1).numpy(), atol=1e-4 * float(want.abs().max()))


def test_weights_that_are_kept_small_stay_computed() -> None:
    """Codes with scales, a mere transposition, and a small vector that is expanded to a large weight."""
    codes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["floats"]),
        helper.make_node("Mul", ["floats", "two"], ["weight"]),
    ]
    moved = [helper.make_node("Transpose", ["large"], ["weight"], perm=[1, 0])]
    outer = [helper.make_node("MatMul", ["column", "row"], ["weight"])]
    constants = {
        "codes": np.ones((80, 80), np.int8), "scale": np.float32(0.1), "two": np.float32(2), "large": np.ones((80, 80), np.float32),
        "column": np.ones((80, 1), np.float32), "row": np.ones((1, 80), np.float32),
    }  # fmt: skip
    for nodes in (codes, moved, outer):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 80])
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
        weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
        product = helper.make_node("MatMul", ["image", "weight"], ["output"])
        graph = helper.make_graph([*nodes, product], "g", [image], [output], weights)
        model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
        assert not fold_fixed_values(model)
