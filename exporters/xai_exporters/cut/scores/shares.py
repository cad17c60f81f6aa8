"""Outputs that are computed from probabilities without being them: percent, sums and weighted sums.

Their softmax would be a number that the network never gave. The cases, in this order:

1. The numbers are never negative, and sum to the same c on every probe: c times a distribution; y / c is one.
2. Additions, means and positive factors of numbers in [0,1]: y / c is their mean; c is the largest value that y can have.
3. Other additions, subtractions and factors of numbers in [0,1]: scores, which nothing turns into probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bundle import Activation

from ...graph.emit import Emitter
from ...graph.reading import numbers_of, signals
from ...passes.clean import CleanGraph
from .intervals import Intervals
from .probing import Probes

_PASSED = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile", "Slice"} | {
    "Gather", "Concat", "QuantizeLinear", "DequantizeLinear", "Sum", "Mean", "ReduceSum", "ReduceMean", "Add",
}  # fmt: skip
_AFFINE = _PASSED | {"Sub", "Neg", "Mul", "Div"}
_NODES = 200


@dataclass(frozen=True)
class Share:
    """The function that turns a tensor, divided by a number, into probabilities."""

    activation: Activation
    divisor: float


def share_of(
    clean: CleanGraph, own: ir.Value, probes: Probes, near: Collection[ir.Value], classes: int, coded: bool
) -> Share | None:
    """How an output is computed from probabilities.

    Args:
        clean: The network.
        own: The output, of one number per class, that holds no probabilities itself.
        probes: Its values, and those of `near`.
        near: Tensors of one number per class before it.
        classes: The number of classes.
        coded: Whether it was rounded to codes of 8 bits on the way.

    Returns:
        The activation and the divisor; None if the output is not seen to be computed from probabilities.
    """
    if classes > 1 and (total := _total(probes, own, 0.05 if coded else 1e-3)) is not None:
        return Share("normalised", total)  # case 1
    bounds = Intervals(clean.shapes)
    kind = _combination(own, bounds, probes, near)
    if kind is None:
        return None
    most = bounds.of(own)[1]  # case 2 with this as c, else case 3
    return Share("independent", most) if kind == "mean" and 0 < most < math.inf else Share("scores", 1.0)


def _total(probes: Probes, own: ir.Value, tolerance: float) -> float | None:
    """The sum of each image's numbers, if they are never negative and differ from image to image but their sums do not."""
    rows = probes.of(own)
    sums = rows.sum(axis=1)
    total = float(np.median(sums))
    tolerance = max(tolerance, probes.rtol)
    if not total > 0 or rows.min() < -probes.atol * max(total, 1.0) or np.ptp(rows, axis=0).max() < 1e-3 * total:
        return None
    if np.abs(sums - total).max() > tolerance * total:
        return None
    whole = round(total)  # 100, not 99.99998
    return float(whole) if whole and abs(total - whole) <= tolerance * total else total


def _combination(own: ir.Value, bounds: Intervals, probes: Probes, near: Collection[ir.Value]) -> str | None:
    """ "mean", "other", or None if some way back does not end in numbers in [0,1]."""
    pending, seen, kind = [own], {own}, "mean"
    while pending:
        value = pending.pop()
        low, high = bounds.of(value)
        if value is not own and ((low >= -1e-6 and high <= 1 + 1e-6) or _distributed(value, probes, near)):
            continue
        node = value.producer()
        if node is None or node.op_type not in _AFFINE or len(seen) > _NODES:
            return None
        sources = signals(node)
        if not sources or (node.op_type in ("Mul", "Div") and not _scales(node, sources)):
            return None
        if not _keeps_shares(node, sources):
            kind = "other"
        pending += [source for source in sources if source not in seen]
        seen.update(sources)
    return kind


def _scales(node: ir.Node, sources: list[ir.Value]) -> bool:
    """Whether a Mul or Div is by a constant."""
    return len(sources) == 1 and (node.op_type == "Mul" or sources[0] is node.inputs[0])


def _keeps_shares(node: ir.Node, sources: list[ir.Value]) -> bool:
    """Whether a node's result is a mean of its inputs, except for a positive factor."""
    if node.op_type in ("Sub", "Neg"):
        return False
    constants = [array for x in node.inputs if x not in sources and (array := numbers_of(x)) is not None]
    if node.op_type in ("Add", "Sum", "Mean"):
        return all(not array.any() for array in constants)
    if node.op_type in ("Mul", "Div"):
        return all(array.size == 1 and array.reshape(-1)[0] > 0 for array in constants)
    return True


def _distributed(value: ir.Value, probes: Probes, near: Collection[ir.Value]) -> bool:
    """Whether a tensor's numbers sum to 1 on every probe, as those of a softmax that is written out do."""
    return value in near and probes.in_unit(value) and probes.of(value).shape[1] > 1 and probes.sums_to_one(value, 1e-3)


def divided(clean: CleanGraph, value: ir.Value, divisor: float) -> ir.Value:
    """y / c as a new tensor of the graph, in float32 if y is in double; y itself if c is 1."""
    emit = Emitter(clean.graph, "share")
    if value.dtype == ir.DataType.DOUBLE:
        value = _like(
            clean, value, emit.node("Cast", [value], "float", {"to": int(ir.DataType.FLOAT)}), ir.DataType.FLOAT
        )
    if divisor == 1:
        return value
    assert value.dtype is not None
    factor = emit.constant(np.array(1 / divisor, value.dtype.numpy()), "factor")
    return _like(clean, value, emit.node("Mul", [value, factor], "logits"), value.dtype)


def _like(clean: CleanGraph, value: ir.Value, new: ir.Value, dtype: ir.DataType) -> ir.Value:
    new.shape, new.type = value.shape, ir.TensorType(dtype)
    clean.shapes.alias(str(new.name), value)
    return new
