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


def has_objectness(values: Floats) -> bool:
    """Whether rows hold at least six entries, all from the fifth on in [0,1], and the last is no number of a class."""
    if not len(values) or not 6 <= values.shape[2] < values.shape[1]:
        return False
    shares = values[..., 4:]
    return bool((shares >= 0).all() and (shares <= 1).all() and (shares[..., -1] != np.rint(shares[..., -1])).any())


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
    scores = after_box(given.clean, output, 2)
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


def form_of_rows(given: Outputs, output: ir.Value) -> Literal["corners", "centre", "neither"] | None:
    """The form of the boxes in pixels with which rows [N,rows,E] begin, see `form_of_cells`."""
    return form_of_cells(given.seen(output)[..., :4], find_grids(given.clean, output, 2, 4), given.size)


def of_objectness(
    given: Outputs,
    output: ir.Value,
    name: str,
    box: Callable[[Ops], ir.Value],
    form: Literal["corners", "centre"] = "centre",
) -> Detector:
    """A detector whose rows hold four coordinates, an objectness and probabilities; `box` writes the coordinates."""
    count, size = given.shape(output)

    def pieces(op: Ops) -> Sequence[ir.Value]:
        objectness = entries(op, output, 2, 4, 5)
        return op.Mul(entries(op, output, 2, 5, size), objectness), box(op), objectness

    return Detector(Rows(name, size - 5, form, "pixels", objectness=True), count, "independent", (output,), pieces)
