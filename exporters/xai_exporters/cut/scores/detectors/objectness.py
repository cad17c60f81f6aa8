"""Rows that hold an objectness between their box and the probabilities of their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from xai_deploy.format.rows import Rows

from ....graph.emit import Ops
from .detector import Detector, Floats, Outputs
from .reading import entries


def has_objectness(values: Floats) -> bool:
    """Whether rows hold at least six entries, all from the fifth on in [0,1], and the last is no number of a class."""
    if not len(values) or not 6 <= values.shape[2] < values.shape[1]:
        return False
    shares = values[..., 4:]
    return bool((shares >= 0).all() and (shares <= 1).all() and (shares[..., -1] != np.rint(shares[..., -1])).any())


def of_objectness(given: Outputs, output: ir.Value, name: str, box: Callable[[Ops], ir.Value]) -> Detector:
    """A detector whose rows hold four coordinates, an objectness and probabilities; `box` writes the coordinates."""
    count, size = given.shape(output)

    def pieces(op: Ops) -> Sequence[ir.Value]:
        objectness = entries(op, output, 2, 4, 5)
        return op.Mul(entries(op, output, 2, 5, size), objectness), box(op), objectness

    return Detector(Rows(name, size - 5, "centre", "pixels", objectness=True), count, "independent", (output,), pieces)
