"""Weights beside ONNX's converter: `weights_aside.py`, against the conversion of the whole model."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xai_exporters.passes.opset import OPSET, to_common_opset
from xai_exporters.passes.weights_aside import read_at_common_opset

from .. import onnx_nets as o


@pytest.mark.parametrize("opset", [13, OPSET, 20])
@pytest.mark.parametrize("listed", [False, True], ids=["", "weights are inputs"])  # as in files of IR version 3
def test_it_is_the_whole_model(opset: int, listed: bool) -> None:
    b = o.Build(opset)
    large = b.weight(np.arange(3 * 40 * 30 * 40, dtype=np.float32).reshape(3, 40, 30, 40), "z first")
    x = b("Relu", b.conv(b("Mul", "image", large), 3, 64, 9))
    x = b("ReduceSum", b("Reshape", x, b.weight([0, 64, -1])), b.weight([2]), keepdims=0)
    b("Gemm", x, b.draw(64, 300), b.draw(300), out="scores")
    model = b.model("scores", shape=("N", 40, 30, 40))
    model.graph.initializer[0].float_data.extend(np.frombuffer(model.graph.initializer[0].raw_data, np.float32))
    model.graph.initializer[0].ClearField("raw_data")
    if listed:
        model.graph.input.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
        )
    before = model.SerializeToString()
    read = read_at_common_opset(model)
    assert model.SerializeToString() == before
    whole = ir.from_proto(to_common_opset(model))
    assert read.graph.opset_imports == whole.graph.opset_imports == {"": OPSET}
    assert list(read.graph.initializers) == list(whole.graph.initializers)
    assert [v.name for v in read.graph.inputs] == [v.name for v in whole.graph.inputs]
    assert ir.to_proto(read).SerializeToString() == ir.to_proto(whole).SerializeToString()
    tensor = read.graph.initializers["z first"].const_value
    assert isinstance(tensor, ir.serde.TensorProtoTensor)
    assert tensor._proto is model.graph.initializer[0]  # no copy
