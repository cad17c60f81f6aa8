"""Networks that make one output of several images on the batch axis: pairs that are compared, frames of a film."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from ..errors import BatchError, GraphError
from ..passes.network_inputs import free_inputs

_SHAPES = 1024
"""Bytes of the largest constant whose content shape inference reads: shapes, no weights."""


@contextmanager
def said_if_stacked(model: onnx.ModelProto, output: str | None) -> Iterator[None]:
    """Give the reason if a step refuses a network because its output has fewer rows than there are images.

    Args:
        model: The network as it was read.
        output: The name of the output that is explained; None: the first.

    Raises:
        GraphError: The step refused it, and the file's shapes show that the network makes one row of several images.
    """
    try:
        yield
    except (GraphError, BatchError) as error:
        line = why_stacked(model, output or model.graph.output[0].name)
        if line is None:
            raise
        raise GraphError(line) from error


def why_stacked(model: onnx.ModelProto, output: str) -> str | None:
    """Says how many rows an output has for how many images; None if there is a row for each, or that is not known."""
    image = next((value for value in free_inputs(model.graph) if len(value.type.tensor_type.shape.dim) in (4, 5)), None)
    scores = next((value for value in model.graph.output if value.name == output), None)
    if image is None or scores is None or not scores.type.tensor_type.shape.dim:
        return None
    images = image.type.tensor_type.shape.dim[0].dim_value or 2
    rows = scores.type.tensor_type.shape.dim[0].dim_value
    if not image.type.tensor_type.shape.dim[0].dim_value:
        one, two = (_rows(model, image.name, output, count) for count in (2, 4))
        rows = one if two == 2 * one else 0
    if not 0 < rows < images:
        return None
    return (
        f"the output {output!r} has {rows} row{'s' * (rows != 1)} for {images} images on the batch axis of {image.name!r}: the "
        "network makes one output of several images, and maps need a row for each image; export it with an input for each of "
        "them, each of which has its own run of the branch, as in forward(self, left, right)"
    )


def _rows(model: onnx.ModelProto, image: str, output: str, images: int) -> int:
    """The rows of an output for some images, if shape inference finds them; else 0. Nothing is run."""
    shapes = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in shapes.graph.initializer:
        if len(tensor.raw_data) > _SHAPES:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    del shapes.graph.value_info[:]
    for value in shapes.graph.output:
        value.type.tensor_type.ClearField("shape")
    given = next(value for value in shapes.graph.input if value.name == image)
    given.type.tensor_type.shape.dim[0].dim_value = images
    try:
        inferred = onnx.shape_inference.infer_shapes(shapes, data_prop=True)
    except Exception:  # a damaged graph: the step has said what is wrong
        return 0
    found = next(value for value in inferred.graph.output if value.name == output).type.tensor_type
    return found.shape.dim[0].dim_value if found.HasField("shape") and found.shape.dim else 0
