"""The tail at one position of the layer at a time, for tails in which a position changes only a part of each map."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bundle import LOGITS

from ..errors import RuleError
from ..graph.measure import batch_of, evaluate, measure
from ..graph.writing import IR_VERSION
from ..request import Request
from .material import Material
from .pixelwise import find_pooled
from .role import SHARE, Kind, Role, at_each_layer, kinds
from .windows.graph import Windows
from .windows.plan import plan_windows

ROLE = "windowed-tail"


def _roles(request: Request) -> Iterator[Role]:
    named = ROLE in request.roles
    yield from at_each_layer(request, ROLE, partial(_build, named=named), when="default")


def _build(material: Material, level: int, named: bool) -> ir.Graph | None:
    """The graph; None if the tail has no use for one, or if windows are not possible.

    Raises:
        RuleError: It is asked for by name and not possible.
    """
    made = _windows(material, level)
    if isinstance(made, ir.Graph):
        return made
    if named:
        raise RuleError(f"no {ROLE!r}: {made}; leave it out, ReciproCAM then runs the whole tail for each position")
    return None


def _windows(material: Material, level: int) -> ir.Graph | str:
    """The graph, or why there is none."""
    tail, shape = material.tails[level], material.cuts[level].shape
    [end] = [v for v in tail.outputs if v.name == LOGITS]
    if material.logits.scores.by_region:
        return "it is made for networks that give one score for each class"
    if len(tail.inputs) != 1:
        return f"the layer has tensors beside it ({tail.inputs[1].name}), which differ from image to image"
    if len(shape) != 3 or tail.inputs[0].dtype != ir.DataType.FLOAT or batch_of(tail.inputs[0]) != "N":
        return "it is made for images in float32, any number at a time"
    if tail.opset_imports[""] < 18:
        return f"the network has opset {tail.opset_imports['']}; it is made for 18 and above"
    if find_pooled(tail, shape) is not None:
        return "the tail begins with a global average, so that it needs none"
    return windowed(tail, end, material.logits.classes)


def windowed(tail: ir.Graph, end: ir.Value, classes: int) -> ir.Graph | str:
    """The graph over windows, or why it would not be faster.

    Args:
        tail: A finished tail of one input, [N,K,h,w] float32.
        end: Its output of the scores, [N,classes].
        classes: How many scores there are.
    """
    model = ir.Model(tail, ir_version=IR_VERSION)
    shapes = measure(model)
    plan = plan_windows(tail, shapes, end)
    if isinstance(plan, str):
        return plan
    source = tail.inputs[0]
    still = evaluate(model, [str(v.name) for v in (*plan.windows, *plan.pooled) if v is not source], 1)
    still[str(source.name)] = np.zeros((1, *map(int, shapes.two[str(source.name)][1:])), np.float32)
    graph = Windows(tail, plan, shapes, still, end, classes).finish()
    if plan.naive:
        graph.meta[SHARE] = round(plan.cost / plan.naive, 4)
    return graph


kinds.register("windowed tail")(Kind(place=25, roles=_roles))
