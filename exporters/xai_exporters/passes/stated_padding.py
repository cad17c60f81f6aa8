"""State the padding of a pooling whose size shape inference does not get right.

With `ceil_mode` a last window that would begin in the padding is left out; ONNX's shape inference up to opset 21 counts it. A graph
that compares the pooling with its input is then refused by ONNX Runtime. MaxPool, LpPool and AveragePool without
`count_include_pad` ignore what is in the padding, so for them stated padding without `ceil_mode` is the same. With it, AveragePool
counts stated padding and not what ceil_mode adds; it is rewritten if no window needs that.
"""

from __future__ import annotations

import onnx_ir as ir

from ..graph.measure import Measured
from ..graph.reading import attribute


def state_padding(model: ir.Model, shapes: Measured) -> None:
    """Change attributes in place where the sizes differ; results keep their values."""
    for node in model.graph:
        if (
            node.op_type in ("AveragePool", "LpPool", "MaxPool")
            and node.domain == ""
            and attribute(node, "ceil_mode", 0)
        ):
            _state(node, shapes)


def _state(node: ir.Node, shapes: Measured) -> None:
    x = node.inputs[0]
    assert x is not None
    source, result, kernel = shapes.dims(x)[2:], shapes.dims(node.outputs[0])[2:], attribute(node, "kernel_shape", ())
    rank = len(kernel)
    strides, dilations, pads = (
        list(attribute(node, name, [v] * n))
        for name, v, n in (("strides", 1, rank), ("dilations", 1, rank), ("pads", 0, 2 * rank))
    )
    auto = str(attribute(node, "auto_pad", "NOTSET"))
    if auto.startswith("SAME") and max(dilations) > 1:
        return  # runtimes pad it differently
    differs, exact = False, True
    own = list(pads)
    for axis, (size, windows) in enumerate(zip(source, result, strict=True)):
        if size is None or windows is None:
            return
        span, stride = (kernel[axis] - 1) * dilations[axis] + 1, strides[axis]
        reach = max((windows - 1) * stride + span - size, 0)  # what the windows read beyond the input
        if auto.startswith("SAME"):
            pads[axis] = reach // 2 if auto == "SAME_UPPER" else reach - reach // 2
            inferred = -(-size // stride)
        else:
            inferred = -(-(size + pads[axis] + pads[rank + axis] - span) // stride) + 1
        pads[rank + axis] = max(reach - pads[axis], 0)
        exact = exact and windows == (size + own[axis] + own[rank + axis] - span) // stride + 1
        differs = differs or inferred != windows or auto.startswith("SAME")
    if attribute(node, "count_include_pad", 0):
        pads, differs = own, differs and exact and auto == "NOTSET"
    if differs:
        del node.attributes["ceil_mode"]
        node.attributes.pop("auto_pad", None)
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
