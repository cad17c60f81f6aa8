"""`--split auto` for a detector: of each level of its pyramid the map that enters the detector's head."""

from __future__ import annotations

import math

import onnx_ir as ir

from ..graph.reading import ancestors, data_inputs
from ..passes.clean import CleanGraph
from .activated import is_activated
from .auto import FLOATS
from .featuremap import is_feature_map
from .scores.logits import Logits

_LINEAR = ("Conv", "ConvInteger", "QLinearConv", "MatMul", "Gemm")

Size = tuple[int, ...]


def detector_layers(clean: CleanGraph, logits: Logits) -> list[ir.Value]:
    """The maps that enter a detector's head, in the graph's order; none if its rows come from no maps.

    The levels are the sizes of the last maps on the way to the rows. The branches of a level (scores, boxes) end in linear layers.
    They begin at the last map of that size that reaches all of them; see `_common`.
    """
    ends: dict[Size, set[ir.Value]] = {}
    for last in _last_maps(clean, logits.value):
        grid = is_feature_map(clean, last)
        if grid is not None and math.prod(grid.shape[1:]) > 1 and grid.order is None:
            ends.setdefault(grid.shape[1:], set()).update(_taken(last))
    chosen = [_common(clean, size, taken) for size, taken in ends.items()]
    return [value for node in clean.graph for value in node.outputs if value in chosen]


def _last_maps(clean: CleanGraph, value: ir.Value) -> set[ir.Value]:
    """The maps from which a tensor is made without another map in between."""
    maps: set[ir.Value] = set()
    pending: list[ir.Value] = [value]
    seen: set[ir.Value] = set()
    for one in pending:
        if one in seen:
            continue
        seen.add(one)
        if is_feature_map(clean, one) is not None:
            maps.add(one)
            continue
        node = one.producer()
        pending += data_inputs(node) if node is not None else ()
    return maps


def _taken(value: ir.Value) -> set[ir.Value]:
    """What the linear layers take that end a head's branches: they are put together, and functions may follow them. Regions are
    cut out of the map itself."""
    if any(use.node.op_type == "RoiAlign" for use in value.uses()):  # a second stage reads the map itself
        return {value}
    pending, taken, seen = [value], set(), set()
    for one in pending:
        node = one.producer()
        if node is None or one in seen:
            continue
        seen.add(one)
        inputs = data_inputs(node)
        if node.op_type in _LINEAR:
            taken.add(inputs[0])
        else:
            pending += inputs
    return taken


def _joins(clean: CleanGraph, node: ir.Node, size: Size) -> bool:
    """Whether an operator puts several maps of a size together."""
    grids = {value: is_feature_map(clean, value) for value in data_inputs(node)}
    return sum(grid is not None and grid.shape[1:] == size for grid in grids.values()) > 1


def _common(clean: CleanGraph, size: Size, taken: set[ir.Value]) -> ir.Value | None:
    """The last map of a size that reaches all of some tensors; None if there is none.

    It is an activation function's result, unless a linear layer of that size follows: a pyramid's maps (FPN) often are plain
    results of convolutions, and the last activation function before them belongs to the backbone. Nor is it one of several maps
    that are put together afterwards: the levels of RT-DETR end in an Add of two branches, and the head reads both.
    """
    leading = set.intersection(*(ancestors([value]) for value in taken)) if taken else set()
    activated = last = None
    for node in clean.graph:
        for value in node.outputs:
            if value not in leading or value.dtype not in FLOATS:
                continue
            grid = is_feature_map(clean, value)
            if grid is None or grid.shape[1:] != size or grid.order is not None:
                continue
            last = value
            if is_activated(value):
                activated = value
            elif node.op_type in _LINEAR or _joins(clean, node, size):
                activated = None
    return last if activated is None else activated
