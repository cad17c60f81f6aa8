"""Find numbers that are no classes: measured values, and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from ...errors import GraphError
from ...passes.clean import CleanGraph
from .probing import Probes

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_SAME = {"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_NEAR = 8
"""The number of nodes before an output among which its normalisation is looked for."""


@dataclass(frozen=True)
class Vector:
    """Numbers of an image.

    Attributes:
        value: Their tensor, [N,D] or [N,D,1,1] and the like.
        length: D.
        normalised: The vector has length 1.
    """

    value: ir.Value
    length: int
    normalised: bool


def find_vector(clean: CleanGraph, output: ir.Value, task: Literal["numbers", "embedding"] | None) -> Vector | None:
    """The numbers that an output holds; None if it holds something else.

    Args:
        clean: The network.
        output: One of its outputs.
        task: "numbers" takes it as it is. None and "embedding": only vectors of length 1.

    Raises:
        GraphError: The task is "numbers", and the output is not one list of floats for each image.
    """
    value = output
    while value.dtype not in _FLOATS and (node := value.producer()) is not None and node.op_type in _SAME:
        if node.inputs[0] is None:
            break
        value = node.inputs[0]
    shape = clean.shapes.per_image(value.name)
    flat = shape is not None and sum(d != 1 for d in shape) <= 1 and value.dtype in _FLOATS
    length = max(shape, default=1) if shape is not None else 0
    if task == "numbers":
        if not flat:
            raise GraphError(
                f"the output {output.name!r} has shape {clean.shapes.dims(value)}; --task numbers takes one list of floats for "
                "each image, [N, D]; name another with --output"
            )
        return Vector(value, length, False)
    if not flat or length < 2 or not _seems_normalised(value):
        return None
    probes = Probes(clean, [value])
    if not probes.enough or np.abs(np.linalg.norm(probes.of(value), axis=1) - 1).max() > 1e-2:
        return None
    return Vector(value, length, True)


def _seems_normalised(value: ir.Value) -> bool:
    """Whether a tensor may be a vector divided by its length: an LpNormalization, or a quotient with a root of a sum of squares."""
    node = value.producer()
    while node is not None and node.op_type in _SAME and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type == "LpNormalization":
        return node is not None
    if node.op_type not in ("Div", "Mul"):
        return False
    pending, seen = [x for x in node.inputs if x is not None], 0
    for source in pending:
        made = source.producer()
        seen += 1
        if made is None or seen > _NEAR:
            continue
        if made.op_type in ("ReduceL2", "ReduceSumSquare", "Sqrt", "Rsqrt"):
            return True
        if made.op_type in ("Clip", "Max", "Add", "Expand", "Reciprocal", "Pow", "Unsqueeze", "Identity"):
            pending += [x for x in made.inputs if x is not None]
    return False
