"""Turn an image input of int8 codes into one of uint8 pixels: q = pixel - 128.

If every reader of the input is a DequantizeLinear, its zero point z becomes z + 128: scale (q - z) = scale (pixel - (z + 128)).
Otherwise standard operators compute the codes from the pixels first.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def to_pixels(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with a uint8 input, or None if it has not exactly one input, of int8. The model given is not changed."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in weights]
    if len(images) != 1 or images[0].type.tensor_type.elem_type != onnx.TensorProto.INT8:
        return None
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    [image] = [value for value in graph.input if value.name == images[0].name]
    image.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    readers = [node for node in graph.node if image.name in node.input]
    if all(_is_dequantize(node, weights) for node in readers):
        for index, node in enumerate(readers):
            zero = numpy_helper.to_array(weights[node.input[2]])
            name = f"{image.name}/zero_{index}"  # z + 128 is within 0..255; the sum itself needs more than int8
            graph.initializer.append(numpy_helper.from_array((zero.astype(np.int16) + 128).astype(np.uint8), name))
            node.input[2] = name
        return changed
    # codes = Q(DQ(pixel)): DQ with zero point 128, Q with zero point 0, both with scale 1
    codes, one, middle, zero_ = (f"{image.name}/{what}" for what in ("codes", "one", "middle", "zero"))
    for name, value in ((one, np.float32(1)), (middle, np.uint8(128)), (zero_, np.int8(0))):
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    for node in readers:
        for position, name in enumerate(node.input):
            if name == image.name:
                node.input[position] = codes
    floats = f"{image.name}/floats"
    graph.node.insert(0, helper.make_node("QuantizeLinear", [floats, one, zero_], [codes], name=codes))
    graph.node.insert(0, helper.make_node("DequantizeLinear", [image.name, one, middle], [floats], name=floats))
    return changed


def to_codes(pixels: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The source's own codes for pixels [N,...]: pixel - 128."""
    return (pixels.astype(np.int16) - 128).astype(np.int8)


def _is_dequantize(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    return node.op_type == "DequantizeLinear" and len(node.input) > 2 and node.input[2] in weights
