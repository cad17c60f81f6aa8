"""The walk: from the image through every node, the positions of each tensor, and why one has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from ..measure import Measured
from ..reading import attribute
from . import blocks, elsewhere  # noqa: F401  (they register their rules)
from . import strand as s
from .frame import Frame
from .rules import RULES, Shape, Step
from .strand import Positions, Strand

_ELSEWHERE = ("GridSample", "DeformConv", "RoiAlign", "MaxRoiPool")
"""Operators that sample an image at places of their own choice: the cells of their result lie elsewhere than their order says."""


@dataclass(frozen=True)
class Traced:
    """A tensor's positions.

    Attributes:
        strands: One for features, two for queries against keys, none for a tensor that belongs to no place.
        why: Why there is no strand.
    """

    strands: Positions
    why: str = ""


def trace(
    graph: ir.Graph, shapes: Measured, axes: Sequence[int], image: ir.Value | None = None
) -> dict[ir.Value, Traced]:
    """The positions of every tensor that is computed from the image.

    Args:
        graph: The graph, sorted. What comes from other inputs alone belongs to no place.
        shapes: The measured shapes of every tensor.
        axes: The axes of the image's sides, see `layouts.sides`.
        image: The image; None: the graph's first input.
    """
    image = graph.inputs[0] if image is None else image
    size = shapes.two[str(image.name)]
    places = tuple(s.ladder(len(size), axis, size[axis]) for axis in axes)
    traced = {image: Traced((Strand(places, tuple(Frame(0.0, 1.0, size[axis]) for axis in axes)),))}
    for node in graph:
        inputs = [traced.get(v) if v is not None else None for v in node.inputs]
        if any(inputs) and node.op_type not in ("Shape", "Size"):  # a size depends on no pixel
            _follow(node, [i or Traced(()) for i in inputs], shapes, traced)
    return traced


def _follow(node: ir.Node, inputs: list[Traced], shapes: Measured, traced: dict[ir.Value, Traced]) -> None:
    # what is put at a MaxPool's places takes its position from the pooling, whatever it is
    had = any(i.strands for i in inputs) or node.op_type == "ScatterElements"
    why = next((i.why for i in inputs if i.why), "")
    if not had:
        traced.update((value, Traced((), why)) for value in node.outputs)
        return
    sizes = tuple(None if v is None else _shape(v, shapes) for v in node.inputs)
    results = tuple(shapes.two[str(v.name)] for v in node.outputs)

    def of(value: ir.Value) -> tuple[Positions, Shape]:
        return traced[value].strands if value in traced else (), _shape(value, shapes)

    step = Step(node, tuple(i.strands for i in inputs), sizes, results, of)
    if node.op_type == "Split":
        traced.update(zip(node.outputs, map(Traced, _split(step)), strict=True))
        return
    crops = node.op_type == "Resize" and attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    rule = None if crops else RULES.get(node.op_type)  # its region may be any part of the image
    lost = f"positions can't be followed through {node.name!r} ({node.op_type})"
    if node.op_type in _ELSEWHERE:
        lost += ", which takes its values from other places"
    if rule is None:
        traced.update((value, Traced((), lost)) for value in node.outputs)
        return
    strands = rule(step)
    if len(strands) > 2:  # a tensor has a query and a key at most
        strands = ()
    together = f"{node.name!r} ({node.op_type}) brings the image's positions together"
    why = "" if strands else lost if node.op_type in (*_ELSEWHERE, "ScatterElements") else together
    traced[node.outputs[0]] = Traced(strands, why)
    # the scale of a whole tensor, indices: nothing is looked for in them
    beside = f"{node.name!r} ({node.op_type}) gives it beside its result"
    traced.update((value, Traced((), beside)) for value in node.outputs[1:])


def _split(step: Step) -> list[Positions]:
    axis = int(step.node.attributes["axis"].value if "axis" in step.node.attributes else 0) % len(step.shape)
    edges = np.cumsum([0, *(shape[axis] for shape in step.results)])
    parts = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    return [
        s.kept(
            strand.map(lambda a, part=part: a if a.shape[axis] == 1 else s.squash(a[(*(slice(None),) * axis, part)]))  # type: ignore[misc]
            for strand in step.states[0]
        )
        for part in parts
    ]


def _shape(value: ir.Value, shapes: Measured) -> Shape:
    known = shapes.two.get(str(value.name))
    if known is not None:
        return known
    assert value.const_value is not None
    return tuple(map(int, value.const_value.shape.numpy()))
