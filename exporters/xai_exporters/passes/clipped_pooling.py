"""Clip a pooling's window to its input where it is larger.

AvgPool2d(640, ceil_mode=True) on a 7 x 7 map, as transformers' EfficientNet has it, is the mean of the map. The gradient of a
640 x 640 window takes gigabytes, and OpenVINO refuses it. An axis is clipped if

1. the kernel is larger than the input, without dilation,
2. there is one window, which holds the whole input.

AveragePool divides by the number of positions in its window. With `count_include_pad` those in the stated padding count, and those
that ceil_mode adds beyond it do not (AveragePool of opset 19; ONNX Runtime computes earlier opsets likewise). The clipped average
is multiplied by positions inside / positions that count. MaxPool and LpPool ignore the padding.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.measure import Measured
from ..graph.reading import attribute

_WHOLE = {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool", "LpPool": "GlobalLpPool"}


def clip_poolings(model: ir.Model, shapes: Measured) -> None:
    """Rewrite the graph in place; tensors keep their names and shapes."""
    emit = Emitter(model.graph, "clipped")
    for node in list(model.graph):
        if node.op_type in _WHOLE and node.domain == "" and not any(value.uses() for value in node.outputs[1:]):
            _clip(emit, node, shapes)


def _clip(emit: Emitter, node: ir.Node, shapes: Measured) -> None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    source, result, kernel = shapes.dims(x)[2:], shapes.dims(y)[2:], list(attribute(node, "kernel_shape", ()))
    rank = len(kernel)
    pads, strides = (
        list(attribute(node, name, [v] * n)) for name, v, n in (("pads", 0, 2 * rank), ("strides", 1, rank))
    )
    auto = attribute(node, "auto_pad", "NOTSET")
    factor, clipped = 1.0, []
    for axis, (size, windows) in enumerate(zip(source, result, strict=True)):
        dilation = list(attribute(node, "dilations", [1] * rank))[axis]
        if size is None or windows != 1 or kernel[axis] <= size or dilation != 1:
            continue
        if auto != "NOTSET":  # what pads were chosen: the window then reaches exactly over the padded input
            total = kernel[axis] - size if auto.startswith("SAME") else 0
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[axis], pads[rank + axis] = before, total - before
        before, after = pads[axis], pads[rank + axis]
        if kernel[axis] - before < size:
            continue
        counted = min(kernel[axis], before + size + after) if attribute(node, "count_include_pad", 0) else size
        factor *= size / counted
        kernel[axis], strides[axis], pads[axis], pads[rank + axis] = size, 1, 0, 0
        clipped.append(axis)
    if not clipped or (auto != "NOTSET" and len(clipped) < rank):
        return
    _replace(emit, node, shapes, (kernel, strides, pads), factor if node.op_type == "AveragePool" else 1.0)


def _replace(
    emit: Emitter, node: ir.Node, shapes: Measured, window: tuple[list[int], list[int], list[int]], factor: float
) -> None:
    """Replace the node by one with another window, times a factor."""
    (kernel, strides, pads), x, y = window, node.inputs[0], node.outputs[0]
    assert x is not None
    name = node.name or node.op_type
    whole = tuple(kernel) == tuple(shapes.dims(x)[2:]) and not any(pads)
    kept = {key: attr.value for key, attr in node.attributes.items() if not whole or key == "p"}
    if not whole:
        kept |= {"kernel_shape": kernel, "strides": strides, "pads": pads}
    new = ir.node(
        _WHOLE[node.op_type] if whole else node.op_type, [x], attributes=kept, name=emit.unique(f"{name}/clipped")
    )
    nodes = [new]
    if factor != 1.0:
        assert y.dtype is not None or x.dtype is not None
        kind = (y.dtype or x.dtype or ir.DataType.FLOAT).numpy()
        scale = emit.constant(np.array(factor, kind), f"{name}/share")
        new.outputs[0].name = emit.unique(f"{name}/clipped")
        shapes.alias(str(new.outputs[0].name), y)
        nodes.append(ir.node("Mul", [new.outputs[0], scale], name=emit.unique(f"{name}/counted")))
    for made in nodes:
        made.metadata_props.update(node.metadata_props)
    result, label = nodes[-1].outputs[0], str(y.name)
    ir.convenience.replace_nodes_and_values(emit.graph, node, [node], nodes, [y], [result])
    result.name = label


def clip_channel_windows(model: ir.Model, shapes: Measured) -> None:
    """Let an LRN's window reach no further than there are channels, in place: what lies beyond them counts as 0.

    y = x / (bias + alpha / size sum(x^2))^beta; with 2 C - 1 channels in the window every sum is that of all, and alpha is scaled
    by as much as size. ONNX Runtime takes memory for the window, however few channels there are.
    """
    for node in model.graph:
        channels = shapes.dims(node.inputs[0])[1] if node.op_type == "LRN" and node.inputs[0] is not None else None
        size = int(attribute(node, "size", 1))
        if channels is None or size <= 2 * channels - 1:
            continue
        most = 2 * channels - 1
        node.attributes["size"] = ir.AttrInt64("size", most)
        node.attributes["alpha"] = ir.AttrFloat32("alpha", attribute(node, "alpha", 1e-4) * most / size)
