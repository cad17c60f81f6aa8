"""A composite that holds only [nodes] finds the rule, with its parameter."""

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.relevance.composite import parse_composite
from xai_exporters.relevance.graph import relevance_graph
from xai_exporters.relevance.node_names import note_names

composite = parse_composite(
    'base = "none"\n[nodes]\n"relu" = {rule = "keep", share = 0.25}', "check"
)  # before any other look-up
ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("activation", "logits")]
tail = helper.make_graph(
    [helper.make_node("Relu", ["activation"], ["logits"], name="relu")], "tail", ports[:1], ports[1:]
)
source = ir.from_proto(helper.make_model(tail, opset_imports=[helper.make_opsetid("", 18)]))
note_names(source.graph)
session = onnxruntime.InferenceSession(to_bytes(make_model(relevance_graph(source.graph, 3, composite))))
x = np.ones((2, 3), np.float32)
feeds = {"activation": x, "target": np.array([1, 1]), "seed": np.zeros((2, 3), np.float32)}
[relevance] = session.run(["relevance"], feeds)
np.testing.assert_array_equal(relevance, np.array([[0, 0.25, 0], [0, 0.25, 0]], np.float32))
