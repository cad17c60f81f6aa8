"""Mark the roundings of quantisers that are written out: y = clip(round(x / s) + z, least, greatest) s and its like.

A rounding has no gradient of its own: it is 0 or does not exist. That of a quantiser is passed straight through, as it is of
QuantizeLinear (`vjp.quantised`). Straight-through code of training, x + (q(x) - x).detach(), is such a quantiser in a file: the
file has lost what detach meant, and without the mark its gradient would be 1 - 1.

A Round is a quantiser's if its input was divided by constants that its result is multiplied with again. The rest of a division,
x - s round(x / s), is none: its gradient is 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..graph.reading import STRAIGHT, WRITTEN, constant_of

_BETWEEN = {"Add", "Sub", "Clip", "Min", "Max", "Cast", "Identity"}
_NEAR = 1e-3  # scales are written as rounded inverses
_FAR = 6  # nodes between the rounding and its scale


def mark_quantisers(graph: ir.Graph) -> None:
    """Mark them (`STRAIGHT`)."""
    for node in graph:
        if node.op_type != "Round" or node.domain not in ("", "ai.onnx") or STRAIGHT in node.metadata_props:
            continue
        source, down = _before(node.inputs[0], _FAR)
        if down is not None and any(_inverse(down, up) for up in _after(node.outputs[0], source, _FAR)):
            node.metadata_props[STRAIGHT] = WRITTEN


def _before(value: ir.Value | None, left: int) -> tuple[ir.Value | None, NDArray[np.float64] | None]:
    """What is scaled before the rounding, and the factor; None if it is not scaled."""
    node = value.producer() if value is not None else None
    if node is None or not left:
        return None, None
    if (factor := _factor(node)) is not None:
        return next((v for v in node.inputs if constant_of(v) is None), None), factor
    return _before(_data(node), left - 1) if node.op_type in _BETWEEN else (None, None)


def _after(value: ir.Value, source: ir.Value | None, left: int) -> list[NDArray[np.float64]]:
    """The factors that the result of the rounding is multiplied with, unless it is subtracted from what was rounded."""
    factors = []
    for node in value.consumers() if left else ():
        if (factor := _factor(node)) is not None:
            back = node.outputs[0]
            if not any(reader.op_type == "Sub" and reader.inputs[0] is source for reader in back.consumers()):
                factors.append(factor)
        elif node.op_type in _BETWEEN and _data(node) is value:
            factors += _after(node.outputs[0], source, left - 1)
    return factors


def _factor(node: ir.Node) -> NDArray[np.float64] | None:
    """The constant that a node multiplies its one other input with."""
    if node.op_type not in ("Mul", "Div"):
        return None
    constants = [constant_of(value) for value in node.inputs]
    if node.op_type == "Div":
        return (
            None if constants[1] is None or constants[0] is not None or not constants[1].all() else 1.0 / constants[1]
        )
    known = [c for c in constants if c is not None]
    return known[0].astype(np.float64) if len(known) == 1 else None


def _data(node: ir.Node) -> ir.Value | None:
    """The one input that is no constant."""
    data = [value for value in node.inputs if value is not None and constant_of(value) is None]
    return data[0] if len(data) == 1 else None


def _inverse(down: NDArray[np.float64], up: NDArray[np.float64]) -> bool:
    return (down.shape == up.shape or min(down.size, up.size) == 1) and bool((np.abs(down * up - 1) < _NEAR).all())
