"""Turn an image input of int8 codes into one of uint8 pixels, q = pixel - 128, or an input of codes into one of floats.

If every reader of the input is a DequantizeLinear, its zero point z becomes z + 128: scale (q - z) = scale (pixel - (z + 128)).
Otherwise standard operators compute the codes from the pixels first.

Codes may stand for normalised images. Then a QuantizeLinear with the file's own scale and zero point computes them from floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class CodedInput:
    """How the codes of an image input stand for numbers: (code - zero) scale.

    Attributes:
        name: The input's name.
        scale: The scale.
        zero: The zero point.
        signed: Whether the codes are int8, not uint8.
    """

    name: str
    scale: np.float32
    zero: int
    signed: bool

    @property
    def kind(self) -> type[np.int8 | np.uint8]:
        """The type of the codes."""
        return np.int8 if self.signed else np.uint8

    @property
    def ends(self) -> tuple[float, float]:
        """The numbers of the least and the greatest code."""
        low, high = np.iinfo(self.kind).min, np.iinfo(self.kind).max
        return (low - self.zero) * float(self.scale), (high - self.zero) * float(self.scale)

    def codes(self, x: NDArray[Any]) -> NDArray[Any]:
        """The codes of floats [N,...], as QuantizeLinear computes them."""
        codes = np.rint(x / self.scale) + self.zero
        clipped: NDArray[Any] = np.clip(codes, np.iinfo(self.kind).min, np.iinfo(self.kind).max).astype(self.kind)
        return clipped


def coded_input(model: onnx.ModelProto) -> CodedInput | None:
    """The input of codes of 8 bits, if there is one, and nodes of one scale and zero point alone read it, moved at most."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in weights]
    kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    if len(images) != 1 or images[0].type.tensor_type.elem_type not in kinds:
        return None
    names = _meanings(model.graph, images[0].name)
    if not names or not all(name in weights for pair in names for name in pair):
        return None
    pairs = [[numpy_helper.to_array(weights[name]) for name in pair] for pair in names]
    if any(array.size != 1 for pair in pairs for array in pair):
        return None
    numbers = {(float(scale.item()), int(zero.item())) for scale, zero in pairs}
    if len(numbers) != 1:
        return None
    scale, zero = pairs[0]
    return CodedInput(images[0].name, np.float32(scale.item()), int(zero.item()), zero.dtype == np.int8)


_READ_CODES = {
    "DequantizeLinear": (0,),
    "QGemm": (0, 3),
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
} | dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearSigmoid"), (0,))
"""Operator -> its inputs that hold codes; the scale and the zero point follow each."""
_MOVE = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def _meanings(graph: onnx.GraphProto, name: str) -> list[tuple[str, str]] | None:
    """The names of scale and zero point with which each node reads a tensor of codes; None if one reads it otherwise."""
    found: list[tuple[str, str]] = []
    codes = {name}  # the nodes are in order
    for node in graph.node:
        for i in (i for i, read in enumerate(node.input) if read in codes):
            if node.op_type in _MOVE and i == 0:
                codes.add(node.output[0])
            elif i in _READ_CODES.get(node.op_type, ()) and len(node.input) > i + 2 and all(node.input[i + 1 : i + 3]):
                found.append((node.input[i + 1], node.input[i + 2]))
            else:
                return None
    return found


def of_file(model: onnx.ModelProto, codes: tuple[float, int] | None) -> CodedInput | None:
    """The only input, if it is of 8 bits, by what a file says beside its graph: the scale and the zero point."""
    kinds = {onnx.TensorProto.INT8: True, onnx.TensorProto.UINT8: False}
    if codes is None or len(model.graph.input) != 1:
        return None
    [image] = model.graph.input
    signed = kinds.get(image.type.tensor_type.elem_type)
    scale, zero = codes
    if signed is None or not (-128 <= zero <= 127 if signed else 0 <= zero <= 255):
        return None
    return CodedInput(image.name, np.float32(scale), zero, signed)


def to_floats(model: onnx.ModelProto, coded: CodedInput) -> onnx.ModelProto:
    """The model with an input of floats, which a QuantizeLinear turns into the codes. The model given is not changed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    [image] = [value for value in graph.input if value.name == coded.name]
    image.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    codes, scale, zero = (f"{coded.name}/{what}" for what in ("codes", "scale", "zero"))
    for name, value in ((scale, coded.scale), (zero, coded.kind(coded.zero))):
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == coded.name:
                node.input[position] = codes
    graph.node.insert(0, helper.make_node("QuantizeLinear", [coded.name, scale, zero], [codes], name=codes))
    return changed


def to_codes(pixels: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The source's own codes for pixels [N,...]: pixel - 128."""
    return (pixels.astype(np.int16) - 128).astype(np.int8)


def _is_dequantize(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    return node.op_type == "DequantizeLinear" and len(node.input) > 2 and node.input[2] in weights
