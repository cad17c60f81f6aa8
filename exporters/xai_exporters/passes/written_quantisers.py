"""Mark the roundings of quantisers that are written out: y = clip(round(x / s) + z, least, greatest) s and its like.

A rounding has no gradient of its own: it is 0 or does not exist. That of a quantiser is passed straight through, as it is of
QuantizeLinear (`vjp.quantised`).

Straight-through code of training, x + (q(x) - x).detach(), is known by its form in a file, which has lost what detach meant: the
sum counts as its x, whose gradient is 1. So do signs of binary networks. Around the rounding alone, (round(v) - v) + v (LSQ), it is
round(v) to the bit in floats, and is written as that.

A Round, or a Floor of v + 0.5, is a quantiser's if its input was divided by a scale that its result is multiplied with again: a
constant, or a tensor that the network computes. The rest of a division, x - s round(x / s), is none: its gradient is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.reading import STRAIGHT, WRITTEN, constant_of

_BETWEEN = {"Add", "Sub", "Clip", "Min", "Max", "Cast", "Identity"}
_NEAR = 1e-3  # scales are written as rounded inverses
_FAR = 6  # nodes between the rounding and its scale
_FLAT = {"Round", "Floor", "Ceil", "Sign"}


@dataclass(frozen=True)
class _Factor:
    """What a tensor is multiplied with.

    Attributes:
        of: A constant, or a tensor.
        inverse: Whether the tensor is divided by it instead.
    """

    of: NDArray[np.float64] | ir.Value
    inverse: bool

    def undoes(self, other: _Factor) -> bool:
        if isinstance(self.of, ir.Value) or isinstance(other.of, ir.Value):
            return self.of is other.of and self.inverse != other.inverse
        if self.of.shape != other.of.shape and 1 not in (self.of.size, other.of.size):
            return False
        product = self.of / other.of if self.inverse != other.inverse else self.of * other.of
        return bool((np.abs(product - 1) < _NEAR).all())


def mark_quantisers(graph: ir.Graph) -> None:
    """Mark them (`STRAIGHT`), in place."""
    for node in graph:
        value = _rounded(node)
        if value is None or STRAIGHT in node.metadata_props:
            continue
        _drop_way_around(node.outputs[0], value)
        downs = list(_before(value, _FAR))
        if any(up.undoes(down) for source, down in downs for up in _after(node.outputs[0], source, _FAR)):
            node.metadata_props[STRAIGHT] = WRITTEN
    for node in graph:
        for i, value in enumerate(node.inputs if node.op_type == "Add" else ()):
            rest = None if value is None else value.producer()
            if (
                rest is not None
                and rest.op_type == "Sub"
                and rest.inputs[1] is node.inputs[1 - i]
                and _decides(rest.inputs[0])
            ):
                for position, part in enumerate((rest.inputs[1], value)):  # the first input is the one that counts
                    node.replace_input_with(position, part)
                node.metadata_props[STRAIGHT] = WRITTEN
                break


def _rounded(node: ir.Node) -> ir.Value | None:
    """The v whose round(v) a node gives; None for any other node."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Round":
        return node.inputs[0]
    made = node.inputs[0].producer() if node.op_type == "Floor" and node.inputs[0] is not None else None
    if made is None or made.op_type != "Add":
        return None
    half = next((c for value in made.inputs if (c := constant_of(value)) is not None), None)
    return _data(made) if half is not None and (half == 0.5).all() else None


def _drop_way_around(rounded: ir.Value, value: ir.Value) -> None:
    """Let what reads (r - v) + v read r: the difference of a number and its rounding, and its sum with it, are exact in floats."""
    for rest in [
        node for node in rounded.consumers() if node.op_type == "Sub" and list(node.inputs) == [rounded, value]
    ]:
        for whole in list(rest.outputs[0].consumers()):
            if whole.op_type == "Add" and value in whole.inputs:
                whole.outputs[0].replace_all_uses_with(rounded, replace_graph_outputs=True)


def _decides(value: ir.Value | None, left: int = 2 * _FAR) -> bool:
    """Whether a tensor is rounded, or is one of two constants, except for bounds and scales."""
    node = None if value is None else value.producer()
    if node is None or not left:
        return False
    if node.op_type in _FLAT or (
        node.op_type == "Where" and all(constant_of(part) is not None for part in node.inputs[1:])
    ):
        return True
    if node.op_type in ("Mul", "Div"):
        return any(_decides(data, left - 1) for data, _ in _factors(node))
    return node.op_type in _BETWEEN and _decides(_data(node), left - 1)


def _before(value: ir.Value, left: int) -> Iterator[tuple[ir.Value, _Factor]]:
    """What is scaled before the rounding, and the factors; one for each way to read the product of two tensors."""
    node = value.producer()
    if node is None or not left:
        return
    if node.op_type in ("Mul", "Div"):
        yield from _factors(node)
    elif node.op_type in _BETWEEN and (data := _data(node)) is not None:
        yield from _before(data, left - 1)


def _after(value: ir.Value, source: ir.Value, left: int) -> Iterator[_Factor]:
    """The factors that the result of the rounding is multiplied with, unless it is subtracted from what was rounded."""
    for node in value.consumers() if left else ():
        if node.op_type in ("Mul", "Div"):
            back = node.outputs[0]
            if not any(reader.op_type == "Sub" and reader.inputs[0] is source for reader in back.consumers()):
                yield from (factor for data, factor in _factors(node) if data is value)
        elif node.op_type in _BETWEEN and _data(node) is value:
            yield from _after(node.outputs[0], source, left - 1)


def _factors(node: ir.Node) -> Iterator[tuple[ir.Value, _Factor]]:
    """Each input of a Mul or Div that may be data, with what it is multiplied with."""
    for i, data in enumerate(node.inputs if node.op_type == "Mul" else node.inputs[:1]):
        other = node.inputs[1 - i]
        if data is None or other is None or constant_of(data) is not None:
            continue
        array = constant_of(other)
        if array is None:
            yield data, _Factor(other, node.op_type == "Div")
        elif array.all():
            yield data, _Factor(array.astype(np.float64), node.op_type == "Div")


def _data(node: ir.Node) -> ir.Value | None:
    """The one input that is no constant."""
    data = [value for value in node.inputs if value is not None and constant_of(value) is None]
    return data[0] if len(data) == 1 else None
