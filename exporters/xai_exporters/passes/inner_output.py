"""An inner tensor as an output: what lies before a file's own post-processing can be explained without another export."""

from __future__ import annotations

import contextlib

import onnx

from .runtime_domain import put_aside


def with_output(model: onnx.ModelProto, name: str | None) -> onnx.ModelProto:
    """The network with a further output: a tensor that one of its nodes gives. Without such a tensor it is returned as it is.

    Args:
        model: The network; not changed.
        name: The tensor's name; None: no further output.
    """
    if not name or any(name == value.name for value in model.graph.output):
        return model
    if not any(name in node.output for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    with contextlib.suppress(
        Exception
    ):  # runtimes do not need the type, and a later step says what is wrong with a damaged graph
        *_, own = onnx.shape_inference.infer_shapes(put_aside(copy)).graph.output
        copy.graph.output[-1].CopyFrom(own)
    return copy
