"""Rows that hold an objectness between their box and the probabilities of their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Rows

from ....graph.emit import Ops
from ..grids import find_grids
from .detector import Detector, Floats, Outputs
from .forms import form_of_cells
from .reading import after_box, before, entries, layer_size, uncopied


def classes_of(values: Floats) -> range | None:
    """The entries that hold probabilities of classes in rows whose fifth entry may be an objectness; None if it can't be one.

    Entries that do not lie in [0,1] are something else: coefficients of masks after the classes (YOLOv5's segmentation), or points,
    before them (YOLOv5-face) or after them (YOLOv7's poses). The last class is no whole number everywhere, as that of a class is.
    """
    if not len(values) or not 6 <= values.shape[2] < values.shape[1]:
        return None
    shares = [bool(((column >= 0) & (column <= 1)).all()) for column in np.moveaxis(values, 2, 0)]
    first = shares.index(True, 5) if shares[4] and True in shares[5:] else None
    if first is None:
        return None
    found = range(first, shares.index(False, first) if False in shares[first:] else len(shares))
    last = values[..., found[-1]]
    return found if (last != np.rint(last)).any() else None


def has_objectness(values: Floats) -> bool:
    """Whether rows may hold an objectness and probabilities of classes, and nothing beside them."""
    return classes_of(values) == range(5, values.shape[-1])


def told_objectness(given: Outputs, output: ir.Value) -> Literal["yes", "no", "either"]:
    """Whether rows that may hold an objectness (see `has_objectness`) do, as [N,rows,E] was put together.

    YOLOv8 puts the boxes of all levels and one Sigmoid of all scores together, and deployments transpose that. YOLOX's objectness
    comes from a layer of its own; YOLOv5 puts box, objectness and classes together for each level, and then the levels.

    Args:
        given: The outputs.
        output: The one that holds such rows.

    Returns:
        "either" if one Sigmoid gave all after the box, and nothing tells whether its first number is an objectness.
    """
    size, names = given.shape(output)[1], given.names.count
    scores = next(iter(after_box(given.clean, output, 2)), None)
    logits = None if scores is None else before(given.clean, scores[0], "Sigmoid")
    if scores is None or logits is None or scores[2] != size - 4:
        return "yes"
    if names in (size - 4, size - 5):
        return "no" if names == size - 4 else "yes"
    layer = layer_size(given.clean, logits, scores[1])
    if layer == 1:
        return "yes"
    made = uncopied(output).producer()
    return "no" if layer == size - 4 and made is not None and made.op_type == "Transpose" else "either"


def may_hold_objectness(given: Outputs, output: ir.Value) -> bool:
    """Whether such rows may be read with an objectness: the graph does not tell of another form, or the user asks for this one."""
    if given.asked is not None:
        return given.names.count != given.shape(output)[1] - 4
    return told_objectness(given, output) != "no"


def form_of_rows(
    given: Outputs, output: ir.Value, fractions: bool = False
) -> Literal["corners", "centre", "neither"] | None:
    """The form of the boxes with which rows [N,rows,E] begin, in pixels or fractions; see `form_of_cells`."""
    size = (1, 1) if fractions else given.size
    return form_of_cells(given.seen(output)[..., :4], find_grids(given.clean, output, 2, 4), size)


def of_objectness(
    given: Outputs,
    output: ir.Value,
    name: str,
    box: Callable[[Ops], ir.Value],
    form: Literal["corners", "centre"] = "centre",
    classes: range | None = None,
    unit: Literal["pixels", "fractions"] = "pixels",
) -> Detector:
    """A detector whose rows hold four coordinates, an objectness and probabilities.

    Args:
        given: The outputs.
        output: The one that holds the rows.
        name: The decoder's.
        box: Writes the coordinates.
        form: What these are.
        classes: The entries that hold the probabilities; None: all after the objectness.
        unit: That of the coordinates.
    """
    count, size = given.shape(output)
    own = range(5, size) if classes is None else classes
    others = size - 5 - len(own)

    def pieces(op: Ops) -> Sequence[ir.Value]:
        objectness = entries(op, output, 2, 4, 5)
        return op.Mul(entries(op, output, 2, own.start, own.stop), objectness), box(op), objectness

    rows = Rows(name, len(own), form, unit, objectness=True)
    said = f"{len(own)} classes" if len(own) > 1 else "one class"
    note = (
        f"The rows of {output.name!r} are read as a box, an objectness and the probabilities of {said}; {others} other numbers of "
        "each row (coefficients of masks, points) are not read."
    )
    return Detector(rows, count, "independent", (output,), pieces, note if others else None)


def beside_objectness(given: Outputs, output: ir.Value, classes: range) -> bool:
    """Whether rows of which a part alone holds probabilities hold an objectness: nothing tells that they are YOLOv8's."""
    parts = after_box(given.clean, output, 2)
    eight = bool(parts) and before(given.clean, parts[0][0], "Sigmoid") is not None and parts[0][2] > 1
    return given.names.count in (0, len(classes)) and not eight
