"""Questions asked of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from .coded_weights import codes_of_weight, spread

STRAIGHT = "xai_straight"
"""The key in the metadata of a node that rounds for a quantiser: what propagates back passes it straight through."""

WRITTEN = "written"
"""Its value if the quantiser is written out. At a network's end such a rounding may be a decision: whole percents."""


def constant_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of an initializer or a Constant node, or of a Cast of one; else None."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.numpy()
    made = value.producer()
    if made is None or made.op_type != "Cast" or value.dtype is None:
        return None
    array = constant_of(made.inputs[0])
    return None if array is None else array.astype(value.dtype.numpy())


BY_CONTENT = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators that give as many results as they find in what they read."""


def called(name: str | None, outputs: Iterable[str | None]) -> str:
    """A node's name in a message: its own name, or the tensors that it gives if it has none, as ONNX allows."""
    return f"node {name!r}" if name else f"the node that gives {', '.join(repr(o) for o in outputs if o)}"


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of the standard operators; 1, ONNX's default, if the model does not say."""
    return next((int(i.version) for i in model.opset_import if i.domain in ("", "ai.onnx")), 1)


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute's value, or the operator's default."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.value


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node that are not constants."""
    return [v for v in node.inputs if v is not None and constant_of(v) is None]


def stored_of(value: ir.Value | None) -> NDArray[Any] | None:
    """As `constant_of`; also the codes of a constant that is stored quantised, in the constant's shape."""
    array, node = constant_of(value), None if value is None else value.producer()
    if array is None and node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return stored_of(node.inputs[0])
    return array


def numbers_of(value: ir.Value | None) -> NDArray[Any] | None:
    """As `constant_of`; also the numbers of a constant that is stored in codes, (codes - zero point) scale."""
    array, node = constant_of(value), None if value is None else value.producer()
    if array is not None or node is None or node.op_type != "DequantizeLinear":
        return array
    codes, scale = _codes_of(node.inputs[0]), constant_of(node.inputs[1])
    zero = constant_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.int8)
    if codes is None or scale is None or zero is None or attribute(node, "block_size", 0):
        return None
    axis = int(attribute(node, "axis", 1))
    floats = codes.astype(np.float64) - spread(zero, codes, axis)
    numbers: NDArray[Any] = (floats * spread(scale, codes, axis)).astype(np.float32)
    return numbers


def _codes_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The codes of a constant: stored as such, or written as QuantizeLinear of floats."""
    array, node = constant_of(value), None if value is None else value.producer()
    if array is not None or node is None or node.op_type != "QuantizeLinear":
        return array
    x, scale, zero = constant_of(node.inputs[0]), constant_of(node.inputs[1]), np.zeros((), np.uint8)
    if len(node.inputs) > 2:
        given = constant_of(node.inputs[2])
        if given is None or given.dtype.kind not in "iu" or given.dtype.itemsize > 2:
            return None
        zero = given
    if x is None or scale is None or attribute(node, "block_size", 0):
        return None
    return codes_of_weight(x, scale, zero, int(attribute(node, "axis", 1)))


def signals(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node that are no constants, stored in floats or in codes."""
    return [v for v in node.inputs if v is not None and stored_of(v) is None]


def before_rounding(value: ir.Value) -> ir.Value:
    """The tensor that a tensor is the quantised form of: the x in DQ(Q(x)), also with a Clip of the codes; else the tensor itself.

    A quantiser that is written out counts, too. A question of what made a tensor is asked of this one, so that the float and the
    quantised form of a network get one answer.
    """
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if (written := written_rounding(value)) is not None:
            value = written[0]
            continue
        before, coded = node.inputs[0], value.dtype is not None and value.dtype.is_integer()
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") and not (node.op_type == "Clip" and coded):
            break
        if constant_of(before) is not None:
            break
        value = before
    return value


_BOUNDS = ("Clip", "Max", "Min")


def written_rounding(value: ir.Value) -> tuple[ir.Value, ir.Node] | None:
    """The x of a quantiser that is written out and gives a tensor, and its marked Round; None for any other tensor.

    Its form: (clip(round(x / s + z)) - z) s, or the same with x bounded before it is divided.
    """
    rounding, bounded, scaled = None, False, False
    while (node := value.producer()) is not None and len(data := signals(node)) == 1:
        if node.op_type == "Round" and STRAIGHT in node.metadata_props:
            rounding = node
        elif node.op_type in ("Div", "Mul"):
            if rounding is not None:
                break
            scaled = True
        elif node.op_type in _BOUNDS:
            bounded = True
        elif node.op_type not in ("Add", "Sub"):
            return None
        value = data[0]
    if node is None or rounding is None or not scaled or len(data) != 1:
        return None
    value = data[0]
    while (
        not bounded
        and (node := value.producer()) is not None
        and node.op_type in (*_BOUNDS, "Sub")
        and len(signals(node)) == 1
    ):
        value = signals(node)[0]
    return value, rounding


def descendants(values: Iterable[ir.Value]) -> set[ir.Value]:
    """Every value computed from one of these, themselves included."""
    return _closure(values, lambda v: (o for node, _ in v.uses() for o in node.outputs))


def content_of(image: ir.Value) -> set[ir.Value]:
    """Every value computed from the pixels of an image, not from its shape alone."""
    readers = (node for node, _ in image.uses() if node.op_type not in ("Shape", "Size"))
    return descendants(v for node in readers for v in node.outputs)


def sized_by_content(graph: ir.Graph) -> set[ir.Value]:
    """Every value whose size may differ from image to image, and what is computed from such values."""
    found = (v for node in graph if node.op_type in BY_CONTENT and data_inputs(node) for v in node.outputs)
    return descendants(found)


def ancestors(values: Iterable[ir.Value]) -> set[ir.Value]:
    """Every value that one of these is computed from, themselves included."""

    def before(value: ir.Value) -> Iterable[ir.Value]:
        producer = value.producer()
        return () if producer is None else (v for v in producer.inputs if v is not None)

    return _closure(values, before)


def _closure(values: Iterable[ir.Value], step: Callable[[ir.Value], Iterable[ir.Value]]) -> set[ir.Value]:
    reached, pending = set(), list(values)
    while pending:
        value = pending.pop()
        if value not in reached:
            reached.add(value)
            pending.extend(step(value))
    return reached
