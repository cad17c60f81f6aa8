"""y = atan(x): the gradient of y_1 is (0, 1 / (1 + x_1^2), 0)."""

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.vjp.graph import gradient_graph

ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("activation", "logits")]
tail = helper.make_graph(
    [helper.make_node("Atan", ["activation"], ["logits"], name="atan")], "tail", ports[:1], ports[1:]
)
source = helper.make_model(tail, opset_imports=[helper.make_opsetid("", 18)])
graph = gradient_graph(ir.from_proto(source).graph, classes=3)
session = onnxruntime.InferenceSession(to_bytes(make_model(graph)))
x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
feeds = {"activation": x, "target": np.array([1, 1]), "seed": np.zeros((2, 3), np.float32)}
[gradient] = session.run(["gradient"], feeds)
np.testing.assert_allclose(gradient, np.array([0, 1, 0]) / (1 + x * x), rtol=1e-6)
