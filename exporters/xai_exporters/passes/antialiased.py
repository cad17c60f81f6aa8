"""Write a Resize that shrinks with antialiasing as matrix products: OpenVINO (2026.4) leaves the antialiasing out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ..graph.emit import Emitter, Ops
from ..graph.interpolation import along, resize_matrix
from ..graph.measure import Measured
from ..graph.positions.rules import RESIZES
from ..graph.reading import attribute, constant_of


def write_antialiased(model: ir.Model, shapes: Measured) -> bool:
    """Rewrite the graph in place; the results keep their names.

    Returns:
        Whether anything was rewritten.
    """
    graph = model.graph
    nodes = [node for node in graph if node.op_type == "Resize" and _shrinks(node, shapes)]
    if not nodes:
        return False
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)  # for the element types
    emit = Emitter(graph, "antialiased")
    for node in nodes:
        start, name = len(graph), str(node.outputs[0].name)
        value = _products(emit, node, shapes)
        new = list(graph)[start:]
        for made in new:
            made.metadata_props.update(node.metadata_props)
            made.meta[RESIZES] = made.op_type == "MatMul"
        graph.remove(new)
        ir.convenience.replace_nodes_and_values(graph, node, [node], new, [node.outputs[0]], [value])
        value.name = name
    return True


def _shrinks(node: ir.Node, shapes: Measured) -> bool:
    """Whether a Resize antialiases and shrinks, by sizes or scales alone."""
    x = node.inputs[0]
    assert x is not None
    before, after = shapes.dims(x), shapes.dims(node.outputs[0])
    plain = attribute(node, "keep_aspect_ratio_policy", "stretch") == "stretch"
    plain = plain and attribute(node, "coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"
    shrinks = any(n is not None and m is not None and m < n for n, m in zip(before, after, strict=True))
    return bool(attribute(node, "antialias", 0)) and plain and shrinks


def _products(emit: Emitter, node: ir.Node, shapes: Measured) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    floats = np.dtype(np.float32) if value.dtype is None else value.dtype.numpy()
    op = Ops(emit, str(node.name), floats)
    before, after = shapes.dims(value), shapes.dims(node.outputs[0])
    rank = len(before)
    scales = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    for position, axis in enumerate(a % rank for a in attribute(node, "axes", None) or range(rank)):
        n, m = before[axis], after[axis]
        if n is None or m is None:
            continue
        scale = None if scales is None or scales.size == 0 else float(scales[position])
        if n != m or (scale or 1.0) != 1.0:
            value = along(op, value, axis, rank, resize_matrix(node, n, m, scale).T)
    return value
