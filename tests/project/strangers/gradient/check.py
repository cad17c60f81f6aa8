"""y = -max over the first axis of x: the gradient of y_1 is -1 at the maximum of column 1, and 0 elsewhere."""

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.vjp.graph import gradient_graph

ports = [
    helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["N", 2, 3]),
    helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3]),
]
tail = helper.make_graph(
    [
        helper.make_node("ArgMax", ["activation"], ["best"], axis=1, keepdims=0),
        helper.make_node(
            "NegativeLogLikelihoodLoss", ["activation", "best"], ["logits"], name="loss", reduction="none"
        ),
    ],
    "tail",
    ports[:1],
    ports[1:],
)
source = helper.make_model(tail, opset_imports=[helper.make_opsetid("", 18)])
graph = gradient_graph(ir.from_proto(source).graph, classes=3)
session = onnxruntime.InferenceSession(to_bytes(make_model(graph)))
x = np.random.default_rng(0).standard_normal((2, 2, 3)).astype(np.float32)
feeds = {"activation": x, "target": np.array([1, 1]), "seed": np.zeros((2, 3), np.float32)}
[gradient] = session.run(["gradient"], feeds)
wanted = np.zeros_like(x)
wanted[[0, 1], x[:, :, 1].argmax(1), 1] = -1
np.testing.assert_array_equal(gradient, wanted)
