"""Where a graph is cut, and what passes beside the cut.

The *side tensors* are the tensors that a tail needs beside the activation: inputs of the activation's descendants that are
neither constants, nor descendants, nor computed from the batch alone (the tail computes those again, from its own batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from xai_deploy.format.bundle import ACTIVATION, GRADIENT, RELEVANCE, Side, at_level

from ..errors import LayerError
from ..graph.layouts import Grid
from ..graph.reading import content_of, descendants
from ..passes.clean import CleanGraph
from .featuremap import find_grid
from .scores.logits import Logits

_MOVING = (
    *("Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
    *("RoiAlign", "ScatterElements"),  # a row for each region, of several levels put together
    *("Cast", "Clip", "DequantizeLinear", "QuantizeLinear"),  # another type or quantised, one by one
)


@dataclass(frozen=True)
class Cut:
    """The place at which a graph is cut.

    Attributes:
        target: The tensor.
        grid: How it holds the activation.
        sides: The tensors that pass beside the cut, in the graph's order. In the bundle, the target's tokens beside its grid follow
            them as one more side tensor.
        names: The names of these in the bundle.
        asked: The user's name for the layer.
        level: The number of the layer among several; 0 for the first.
        input: The name of the image that it shows; None: the image that is explained.
        taken: The names that the bundle gives to tensors at its layers, beside those that every bundle has.
    """

    target: ir.Value
    grid: Grid
    sides: tuple[ir.Value, ...]
    names: tuple[str, ...] = ()
    asked: str = ""
    level: int = 0
    input: str | None = None
    taken: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(K,h,w) of the activation; (K,d,h,w) in a network of volumes."""
        return self.grid.shape

    @property
    def activation(self) -> str:
        """The name of the activation in the bundle."""
        return at_level(ACTIVATION, self.level)


def plan_cut(clean: CleanGraph, target: ir.Value, logits: Logits, ends: Sequence[ir.Value], name: str) -> Cut:
    """Check that the graph can be cut at `target`, and find the side tensors.

    Args:
        clean: The graph.
        target: The tensor to cut at.
        logits: The explained output.
        ends: Further tensors that the tail has to give.
        name: The user's name for the layer, for messages.

    Raises:
        LayerError: The graph can't be cut there; the message says why.
    """
    if target in clean.graph.inputs:
        raise LayerError(f"{name!r} gives the image as it is; split at an activation after it")
    grid = find_grid(clean, target, name)
    if target.dtype is not None and target.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        raise LayerError(f"{name!r} holds {target.dtype.name}, not floats; split after its DequantizeLinear")
    if logits.value not in descendants([target]) or logits.value is target:
        raise LayerError(f"the logits do not depend on {name!r}; split at a layer on the way to them")
    sides = side_tensors(clean, target, [logits.value, *ends])
    if (odd := without_batch(clean, sides)) is not None:
        raise LayerError(
            f"the cut at {name!r} needs {odd.name!r} beside it, whose shape {clean.shapes.two.get(str(odd.name))} "
            "does not start with the batch; split at another layer"
        )
    names = tuple(f"side_{i}" for i in range(len(sides) + bool(grid.beside)))
    image = clean.image_of(target)
    other = None if image is clean.graph.inputs[0] else str(image.name)
    return Cut(target, grid, sides, names, name, input=other, taken=names)


def plan_cuts(
    clean: CleanGraph, targets: Sequence[tuple[ir.Value, str]], logits: Logits, ends: Sequence[ir.Value]
) -> tuple[Cut, ...]:
    """As `plan_cut`, for one tensor or several, each with the user's name for it: the cuts in the graph's order.

    Those of the image that is explained come before those of others. A side tensor of several layers has one name.
    """
    cuts = [plan_cut(clean, target, logits, ends, name) for target, name in targets]
    if len(cuts) == 1:
        return tuple(cuts)
    place = {value: i for i, value in enumerate(value for node in clean.graph for value in node.outputs)}
    cuts.sort(key=lambda cut: (cut.input is not None, place[cut.target]))
    names: dict[ir.Value, str] = {}
    count, numbered = 0, []
    for level, cut in enumerate(cuts):
        own = []
        for side in cut.sides:
            if side not in names:
                names[side], count = f"side_{count}", count + 1
            own.append(names[side])
        if cut.grid.beside:
            own, count = [*own, f"side_{count}"], count + 1
        numbered.append(replace(cut, names=tuple(own), level=level))
    levels = [at_level(name, cut.level) for cut in numbered[1:] for name in (ACTIVATION, GRADIENT, RELEVANCE)]
    taken = (*(f"side_{i}" for i in range(count)), *levels)
    return tuple(replace(cut, taken=taken) for cut in numbered)


def without_batch(clean: CleanGraph, sides: Sequence[ir.Value]) -> ir.Value | None:
    """The first side tensor that does not start with the batch, and so can't pass a cut; None if all can."""
    return next((side for side in sides if clean.shapes.per_image(side.name) is None), None)


def side_tensors(
    clean: CleanGraph, target: ir.Value | Sequence[ir.Value], ends: Sequence[ir.Value]
) -> tuple[ir.Value, ...]:
    """The tensors that `ends` need beside `target`, or beside several; see the module's docstring.

    If one does not start with the batch because its elements were moved (the logits of another branch, stacked to be averaged;
    regions of another level), the tail takes the tensors before that, and moves the elements itself. If they were quantised after
    that, it quantises them, too.
    """
    targets = [target] if isinstance(target, ir.Value) else list(target)
    after = descendants(targets)
    data = descendants(clean.graph.inputs)
    if clean.batch is not None:  # tensors computed from the batch alone are no data
        data -= descendants([clean.batch]) - {v for image in clean.graph.inputs for v in content_of(image)}
    # back from the ends; a path stops at the target, at the batch, or at a side tensor
    sides: set[ir.Value] = set()
    pending, seen = list(ends), set()
    while pending:
        value = pending.pop()
        if value in seen or value in targets or value is clean.batch:
            continue
        seen.add(value)
        producer = value.producer()
        moved = producer is not None and producer.op_type in _MOVING and clean.shapes.per_image(value.name) is None
        if value in data and value not in after and not moved:
            sides.add(value)
            continue
        if producer is not None:
            pending.extend(v for v in producer.inputs if v is not None)
    return tuple(v for node in clean.graph for v in node.outputs if v in sides) + tuple(
        v for v in clean.graph.inputs if v in sides
    )


def passed(cut: Cut, clean: CleanGraph) -> list[tuple[tuple[int, ...], ir.DataType | None]]:
    """Shape (without the batch) and element type of what head gives to tail: the activation, the side tensors."""
    own = clean.shapes.two[str(cut.target.name)][1:]
    beside = [((cut.grid.beside, own[1]), cut.target.dtype)] if cut.grid.beside else []
    return [(cut.shape, cut.target.dtype), *(as_given(side, clean) for side in cut.sides), *beside]


def as_given(value: ir.Value, clean: CleanGraph) -> tuple[tuple[int, ...], ir.DataType | None]:
    """Shape (without the batch) and element type of a tensor of the graph."""
    return clean.shapes.two[str(value.name)][1:], value.dtype


def side_tensors_of(cut: Cut, clean: CleanGraph) -> list[Side]:
    """The side tensors as the manifest records them."""
    return [
        Side(name, shape, dtype.numpy().name if dtype else "float32")
        for name, (shape, dtype) in zip(cut.names, passed(cut, clean)[1:], strict=True)
    ]
