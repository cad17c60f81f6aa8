"""The cost of each possible cut: its shape, its side tensors, the multiply-adds before and after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from ..errors import ExtentError, LayerError
from ..graph.module_paths import whole_modules
from ..graph.reading import ancestors, attribute, descendants
from ..passes.clean import CleanGraph
from .featuremap import find_grid, is_feature_map
from .followed import follow_together, noise_for
from .plan import side_tensors, without_batch
from .scores.logits import Logits

NO_CUT = (
    "the network can't be cut anywhere: between the image and the logits no tensor of floats is a feature map of two positions "
    "or more that can be cut at"
)
"""The message if there is no candidate."""


def no_cut(clean: CleanGraph) -> str:
    """Why there is no candidate: `NO_CUT`, and that the network crops its image if it does."""
    for node in reversed(list(clean.graph)):
        for value in node.outputs:
            try:
                find_grid(clean, value, str(value.name))
            except ExtentError as error:
                return f"{NO_CUT} ({error})"
            except LayerError:
                continue
    return NO_CUT


@dataclass(frozen=True)
class Candidate:
    """A legal cut.

    Attributes:
        names: Module paths that stand for it, outermost first; else the node's name.
        tensor: The tensor's name.
        op: The operator that gives it.
        shape: (K,h,w).
        sides: Shapes of the side tensors.
        before: Share of the network's multiply-adds in the head, 0 to 1.
        after: Share in the tail.
        follows: Whether its cells were seen to answer to the image at their own place: yes, no, partly, or mixed (all positions
            alike); None: not measured, or too few cells.
    """

    names: tuple[str, ...]
    tensor: str
    op: str
    shape: tuple[int, ...]
    sides: tuple[tuple[int, ...], ...]
    before: float
    after: float
    follows: str | None = None


def measured(clean: CleanGraph, cuts: Sequence[Candidate]) -> list[Candidate]:
    """The cuts with what `followed` sees of their maps, on noise."""
    values = {str(value.name): value for node in clean.graph for value in node.outputs}
    grids = [is_feature_map(clean, values[cut.tensor]) for cut in cuts]
    maps = [(values[cut.tensor], grid) for cut, grid in zip(cuts, grids, strict=True) if grid is not None]
    assert len(maps) == len(cuts)  # `candidates` has looked
    seen = follow_together(clean, maps, *noise_for(clean)) if maps else []
    return [replace(cut, follows=None if one is None else one.said) for cut, one in zip(cuts, seen, strict=True)]


def candidates(clean: CleanGraph, logits: Logits) -> list[Candidate]:
    """Every tensor of floats that holds an activation of more than one position, between the image and the logits."""
    graph = clean.graph
    modules: dict[ir.Value, list[str]] = {}
    for path, value in whole_modules(graph).items():
        modules.setdefault(value, []).append(path)
    macs = {node: multiply_adds(node, clean) for node in graph}
    total = sum(macs.values()) or 1
    leading = ancestors([logits.value])
    from_image = descendants(graph.inputs[:1])
    cuts = []
    for node in graph:
        for value in node.outputs:
            legal = value in leading and value in from_image and value is not logits.value
            if not legal or value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
                continue
            grid = is_feature_map(clean, value)
            if grid is None or math.prod(grid.shape[1:]) < 2:
                continue
            sides = side_tensors(clean, value, [logits.value, *graph.outputs])
            if without_batch(clean, sides) is not None:
                continue
            # the head computes the side tensors, too
            head = {v.producer() for v in ancestors([value, *sides])}
            tail = {v.producer() for v in descendants([value]) & leading if v is not value}
            cuts.append(
                Candidate(
                    names=tuple(modules.get(value, [str(node.name)])),
                    tensor=str(value.name),
                    op=node.op_type,
                    shape=grid.shape,
                    sides=tuple(clean.shapes.two[str(side.name)][1:] for side in sides),
                    before=sum(macs[n] for n in head if n is not None) / total,
                    after=sum(macs[n] for n in tail if n is not None) / total,
                )
            )
    return cuts


def multiply_adds(node: ir.Node, clean: CleanGraph) -> int:
    """Multiply-adds of one node for one image: convolutions and matrix products, which take most of the time."""
    if node.op_type not in ("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger"):
        return 0
    shape, images = clean.shapes.two, 1 if clean.shapes.one else 2
    x, w, out = (shape.get(str(v.name)) for v in (node.inputs[0], node.inputs[1], node.outputs[0]) if v is not None)
    weight = node.inputs[1]
    if w is None and weight is not None and weight.shape is not None:
        w = tuple(d for d in weight.shape if isinstance(d, int))
    if x is None or w is None or out is None:
        return 0
    if node.op_type in ("Conv", "ConvInteger"):
        return math.prod(out) * math.prod(w[1:]) // images  # w: [M, C/group, kernel]
    if node.op_type == "ConvTranspose":
        return math.prod(x) * math.prod(w[1:]) // images  # w: [C, M/group, kernel]
    # [...,i,k] @ [...,k,j]: k multiply-adds for each result
    inner = x[-2] if node.op_type == "Gemm" and attribute(node, "transA", 0) else x[-1]
    return math.prod(out) * inner // images
