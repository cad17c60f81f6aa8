"""What in OpenVINO's graph depends on no input: computed by OpenVINO's own operators, within bounds; int8 weights stay int8."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.foundation import runtimes

from ...errors import GraphError
from ...graph.emit import Ops

_LONGEST = 500  # characters of a name
_FLOAT_BYTES = 4

_KINDS = {
    "f32": np.float32, "f64": np.float64, "f16": np.float32, "bf16": np.float32, "i8": np.int8, "u8": np.uint8, "i16": np.int16,
    "u16": np.uint16, "i32": np.int32, "u32": np.uint32, "i64": np.int64, "u64": np.uint64, "boolean": np.bool_,
}  # fmt: skip
"""OpenVINO's element types -> those in ONNX. OpenVINO's CPU computes half precision in float32 here."""

_PACKED = {
    **dict.fromkeys(("u1", "u2", "u3", "u4", "u6"), np.uint8), **dict.fromkeys(("i2", "i4"), np.int8),
    **dict.fromkeys(("nf4", "f4e2m1", "f8e4m3", "f8e5m2", "f8e8m0"), np.float32),
}  # fmt: skip
"""Types of compressed weights that neither NumPy nor a bundle has -> what holds their values until they are multiplied."""

_FLOAT_RULES = {"Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply}
"""Computed in float32 for half precision, as OpenVINO's CPU computes compressed weights."""


def readable(name: str) -> str:
    """A name as a manifest can hold it: no control characters, and bounded."""
    return "".join(character if character.isprintable() else "_" for character in name[:_LONGEST])


def called(node: Any) -> str:
    """ "'Conv_3' (Convolution)": a node in a message."""
    return f"the node {node.get_friendly_name()[:_LONGEST]!r} ({node.get_type_name()})"


def port_name(port: Any) -> str:
    """The tensor's name, or else that of the node: for an output, of the one that computes it."""
    names = sorted(port.get_names())
    if names:
        return readable(names[0])
    node = port.get_node()
    return readable(
        (node if node.get_type_name() == "Parameter" else node.input_value(0).get_node()).get_friendly_name()
    )


def kind_of(element: Any, node: Any = None) -> np.dtype[Any]:
    """The element type in ONNX; the node, if there is one, is for the message.

    Raises:
        GraphError: Bundles hold no such type (4 bits, float8, text).
    """
    name = element.get_type_name()
    if name not in _KINDS:
        where = f"{called(node)}: " if node is not None else ""
        what = (
            "a type that OpenVINO does not know (complex numbers, or the file is damaged)"
            if name == "dynamic"
            else f"the type {name}"
        )
        raise GraphError(
            f"{where}holds elements of {what}, which bundles do not hold; convert the model with float or int8 weights"
        )
    return np.dtype(_KINDS[name])


@dataclass(frozen=True)
class Codes:
    """Weights in int8: (codes - zero) * scale.

    Attributes:
        codes: int8 or uint8.
        scale: float32, a scalar or a vector along `axis`.
        zero: As `scale`, of the codes' type.
        axis: The dimension of `codes` along which the scales differ.
    """

    codes: NDArray[Any]
    scale: NDArray[np.float32]
    zero: NDArray[Any]
    axis: int

    def reshaped(self, shape: Any) -> Codes | None:
        """The same in another shape; None if the scales then differ along several dimensions."""
        full = [self._full(part) for part in (self.scale, self.zero)]
        codes = self.codes.reshape(shape)
        return _along_one_axis(codes, *(part.reshape(codes.shape) for part in full))

    def transposed(self) -> Codes:
        """With the last two dimensions exchanged."""
        last = self.codes.ndim - 1
        axis = {last: last - 1, last - 1: last}.get(self.axis, self.axis)
        return Codes(np.ascontiguousarray(np.swapaxes(self.codes, -1, -2)), self.scale, self.zero, axis)

    def emit(self, op: Ops) -> ir.Value:
        """DequantizeLinear of the codes."""
        parts = [
            op.emit.constant(a, f"weight/{n}")
            for a, n in ((self.codes, "codes"), (self.scale, "scale"), (self.zero, "zero"))
        ]
        return op.DequantizeLinear(*parts, axis=self.axis)

    def _full(self, part: NDArray[Any]) -> NDArray[Any]:
        if part.ndim:
            part = part.reshape([-1 if i == self.axis else 1 for i in range(self.codes.ndim)])
        return np.broadcast_to(part, self.codes.shape)


class Constants:
    """Content of outputs that depend on no input.

    Args:
        limit: The largest number of bytes that may be computed.
    """

    def __init__(self, limit: int) -> None:
        self._left = self._limit = limit
        self._arrays: dict[tuple[str, int], NDArray[Any] | None] = {}
        self._unpacked: set[str] = set()

    def array(self, output: Any) -> NDArray[Any] | None:
        """The content, or None if it depends on an input (or is FakeQuantize, which stays an operator).

        Raises:
            GraphError: It would take more than the limit, or has a type that ONNX does not have.
        """
        pending = [output]
        while pending:  # no recursion: shape arithmetic may be deep
            key = _key(pending[-1])
            if key in self._arrays:
                pending.pop()
                continue
            node = pending[-1].get_node()
            before = [node.input_value(i) for i in range(node.get_input_size())] if foldable(node) else []
            if known_sizes(node) is not None:
                before = []
            missing = [o for o in before if _key(o) not in self._arrays]
            if missing:
                pending += missing
                continue
            self._arrays[key] = self._compute(node, pending.pop(), [self._arrays[_key(o)] for o in before])
            if self._arrays[key] is not None:
                self._release(before)
        return self._arrays[_key(output)]

    def put(self, output: Any, array: NDArray[Any]) -> None:
        """Say what a body's parameter holds."""
        self._arrays[_key(output)] = array

    def codes(self, output: Any) -> Codes | None:
        """Int8 weights with their scale, as NNCF compresses them.

        Constant -> Convert [-> Subtract] -> Multiply [-> Convert, Reshape].
        """
        node = output.get_node()
        kind = node.get_type_name()
        if kind == "Convert" and kind_of(output.get_element_type(), output.get_node()) == np.float32:
            return self.codes(node.input_value(0)) if _type(node.input_value(0)) in ("Multiply", "Reshape") else None
        if kind == "Reshape":
            inner = self.codes(node.input_value(0)) if _type(node.input_value(0)) in ("Multiply", "Convert") else None
            shape = output.get_partial_shape()
            return inner.reshaped(list(shape.to_shape())) if inner is not None and shape.is_static else None
        if kind != "Multiply":
            return None
        scale, (source, zero) = self.array(node.input_value(1)), (node.input_value(0), None)
        if _type(source) == "Subtract":
            zero = self.array(source.get_node().input_value(1))
            source = source.get_node().input_value(0)
            if zero is None:
                return None
        if scale is None or scale.dtype != np.float32 or _type(source) != "Convert":
            return None
        origin = source.get_node().input_value(0)
        codes = self.array(origin) if _type(origin) == "Constant" else None
        if codes is None or codes.dtype not in (np.int8, np.uint8) or codes.ndim < 2:
            return None
        zeros = np.zeros((), np.float32) if zero is None else zero
        if (np.rint(zeros) != zeros).any() or (zeros.astype(codes.dtype) != zeros).any() or scale.ndim > codes.ndim:
            return None
        try:
            full = [np.broadcast_to(part, codes.shape) for part in (scale, zeros.astype(codes.dtype))]
        except ValueError:
            return None
        return _along_one_axis(codes, *full)

    def _compute(self, node: Any, output: Any, inputs: list[NDArray[Any] | None]) -> NDArray[Any] | None:
        kind = node.get_type_name()
        shape = output.get_partial_shape()
        if kind == "Constant":
            if _is_packed(output) and node.get_name() not in self._unpacked:
                self._unpacked.add(node.get_name())
                self._left += _FLOAT_BYTES * math.prod(node.get_output_shape(0))  # its floats; the file bounds them
            return _content(node)
        sizes = known_sizes(node)
        if sizes is not None:
            return sizes.astype(kind_of(output.get_element_type(), output.get_node()))
        if not inputs or any(array is None for array in inputs) or not shape.is_static:
            return None
        known = [array for array in inputs if array is not None]
        self._take(node, shape)
        if kind == "Convert" and _is_packed(node.input_value(0)):
            return known[0].astype(kind_of(output.get_element_type(), node))
        if (
            kind_of(output.get_element_type(), output.get_node()) == np.float32
            and output.get_element_type().get_type_name() != "f32"
        ):
            if kind == "Convert":
                return known[0].astype(np.float32)
            return _FLOAT_RULES[kind](*known) if kind in _FLOAT_RULES else None
        return _evaluated(node, output.get_index(), known)

    def _release(self, read: list[Any]) -> None:
        """Forget what one node alone reads, after it: steps of a decompression, each as large as the weights."""
        for output in read:
            if len(output.get_target_inputs()) == 1:
                array = self._arrays.pop(_key(output), None)
                if array is not None and foldable(output.get_node()) and known_sizes(output.get_node()) is None:
                    self._left += _FLOAT_BYTES * array.size

    def _take(self, node: Any, shape: Any) -> None:
        self._left -= _FLOAT_BYTES * math.prod(shape.to_shape())
        if self._left < 0:
            raise GraphError(
                f"{called(node)}: the constants up to here would take more than "
                f"{self._limit >> 20} MiB, far more than the file; refused"
            )


def foldable(node: Any) -> bool:
    """Whether an operator of fixed inputs may be computed at the translation. FakeQuantize stays an operator."""
    kind = node.get_type_name()
    return kind not in ("Constant", "Parameter", "FakeQuantize") and not kind.startswith("Random")


def known_sizes(node: Any) -> NDArray[np.int64] | None:
    """The value of ShapeOf if every size is known, or of a Gather of sizes if those that it takes are; else None."""
    kind = node.get_type_name()
    if kind == "ShapeOf":
        shape = node.get_input_partial_shape(0)
        return np.array(list(shape.to_shape()), np.int64) if shape.is_static else None
    if kind != "Gather" or _type(node.input_value(1)) != "Constant":
        return None
    elements = _elements(node.input_value(0))
    indices = np.array(_content(node.input_value(1).get_node()))
    if elements is None or (indices.size and (indices.min() < -len(elements) or indices.max() >= len(elements))):
        return None
    taken = [elements[int(i)] for i in indices.ravel()]
    return None if None in taken else np.array(taken, np.int64).reshape(indices.shape)


def _elements(output: Any, depth: int = 8) -> list[int | None] | None:
    """A vector of sizes, None for each that is not known; None if it is no such vector.

    A vector of constants alone is none: it is folded.
    """
    node, length = output.get_node(), output.get_partial_shape()
    kind = node.get_type_name()
    if kind == "ShapeOf":
        shape = node.get_input_partial_shape(0)
        return [d.get_length() if d.is_static else None for d in shape] if shape.rank.is_static else None
    if (
        not length.is_static
        or len(length) != 1
        or depth == 0
        or kind_of(output.get_element_type(), output.get_node()).kind not in "iu"
    ):
        return None
    if kind == "Convert":
        return _elements(node.input_value(0), depth - 1)
    if kind != "Concat":
        return None
    vector: list[int | None] = []
    for i in range(node.get_input_size()):
        part, size = node.input_value(i), node.get_input_partial_shape(i)[0].get_length()
        if _type(part) == "Constant":
            vector += [int(v) for v in _content(part.get_node())]
        else:
            vector += [None] * size if (some := _elements(part, depth - 1)) is None else some
    return vector


def _evaluated(node: Any, index: int, inputs: list[NDArray[Any]]) -> NDArray[Any] | None:
    """What OpenVINO's own definition of the operator gives, or None if it has none for the CPU's plain memory."""
    ov = runtimes.openvino()
    for i, array in enumerate(inputs):
        if node.get_input_element_type(i).get_type_name() in ("f16", "bf16"):
            inputs[i] = array.astype(np.float16) if node.get_input_element_type(i).get_type_name() == "f16" else array
            if node.get_input_element_type(i).get_type_name() == "bf16":
                return array.astype(np.float32) if node.get_type_name() == "Convert" else None
    outputs = []
    for i in range(node.get_output_size()):
        shape = node.get_output_partial_shape(i)
        if not shape.is_static:
            return None
        outputs.append(ov.Tensor(node.get_output_element_type(i), ov.Shape(list(shape.to_shape()))))
    given = [
        ov.Tensor(np.ascontiguousarray(array)) if array.ndim else ov.Tensor(array.copy().reshape(()))
        for array in inputs
    ]
    try:
        done = node.evaluate(outputs, given)
    except Exception:  # OpenVINO's types of errors are not documented
        return None
    return np.array(outputs[index].data).reshape(list(outputs[index].shape)) if done else None


def _content(node: Any) -> NDArray[Any]:
    """A constant's elements; half precision as float32, and what is packed by its values."""
    if _is_packed(node.output(0)):
        packed = np.dtype(_PACKED[node.get_output_element_type(0).get_type_name()])
        values = np.array(node.get_data(dtype=np.float32))  # of other types it gives the packed bytes
        return values.astype(packed, copy=False).reshape(list(node.get_output_shape(0)))
    kind = kind_of(node.get_output_element_type(0), node)
    if node.get_output_element_type(0).get_type_name() == "bf16":
        return np.array(node.get_data(dtype=np.float32))
    return np.array(node.get_data()).astype(kind, copy=False).reshape(list(node.get_output_shape(0)))


def _along_one_axis(codes: NDArray[Any], scale: NDArray[np.float32], zero: NDArray[Any]) -> Codes | None:
    """Scales of the codes' shape as a vector along one dimension; None if they differ along several."""
    for axis in (None, *range(codes.ndim)):
        at = tuple(slice(None) if i == axis else slice(0, 1) for i in range(codes.ndim))
        if all(np.array_equal(np.broadcast_to(part[at], codes.shape), part) for part in (scale, zero)):
            vectors = [np.array(part[at]).reshape(() if axis is None else (-1,)) for part in (scale, zero)]
            return Codes(np.ascontiguousarray(codes), vectors[0], vectors[1], axis or 0)
    return None


def _key(output: Any) -> tuple[str, int]:
    return output.get_node().get_name(), output.get_index()


def _is_packed(output: Any) -> bool:
    return output.get_element_type().get_type_name() in _PACKED


def _type(output: Any) -> str:
    return str(output.get_node().get_type_name())
