"""The quantised form of a network: each tensor of activations is rounded, as onnxruntime's quantize_static writes it (QDQ)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SCALE = 2.0**-4


def quantised(model: onnx.ModelProto, apart: bool = False) -> onnx.ModelProto:
    """A copy in which all float inputs of nodes pass QuantizeLinear and DequantizeLinear, constants of arithmetic and layers, too.

    Args:
        model: A network in float32.
        apart: A pair for each reader, as the option DedicatedQDQPair writes it; else one for all.
    """
    model = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(model.SerializeToString()))
    graph = model.graph
    floats = {v.name for v in [*graph.input, *graph.value_info] if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    constants = {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    ends = {v.name for v in graph.output}
    graph.initializer.append(numpy_helper.from_array(np.array(SCALE, np.float32), "rounding/scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "rounding/zero"))
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, int] = {}

    def pair(name: str) -> str:
        rounded[name] = number = rounded.get(name, 0) + apart
        codes, result = f"{name}/codes/{number}", f"{name}/rounded/{number}"
        nodes.append(helper.make_node("QuantizeLinear", [name, "rounding/scale", "rounding/zero"], [codes]))
        nodes.append(helper.make_node("DequantizeLinear", [codes, "rounding/scale", "rounding/zero"], [result]))
        return result

    weights = {one.name for one in graph.initializer if one.data_type == TensorProto.FLOAT} | (constants & floats)
    moving = {v.name for v in graph.input}  # what depends on the image: constants that nodes compute are folded before
    for node in graph.node:
        moving.update(node.output if moving.intersection(node.input) and node.op_type != "Shape" else ())
    arithmetic = ("Add", "Conv", "Div", "Gemm", "MatMul", "Mul", "Sub")
    once: dict[str, str] = {}
    for node in graph.node:
        for i, name in enumerate(node.input):
            weight = name in weights and node.op_type in arithmetic
            if weight or name in floats & moving - ends:
                if apart or name not in once:
                    once[name] = pair(name)
                node.input[i] = once[name]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return model
