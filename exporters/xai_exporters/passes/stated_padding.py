"""State the padding of a pooling where shape inference gets its size wrong, or OpenVINO its mean.

With `ceil_mode` a last window that would begin in the padding is left out; ONNX's shape inference up to opset 21 counts it. A graph
that compares the pooling with its input is then refused by ONNX Runtime. MaxPool, LpPool and AveragePool without
`count_include_pad` ignore what is in the padding, so for them stated padding without `ceil_mode` is the same. With it, AveragePool
counts stated padding and not what ceil_mode adds. Where a window needs both, as in torch's AvgPool2d(3, 2, 1, ceil_mode=True), the
padding becomes a Pad of its own, and the pooling counts what it reads of that: OpenVINO 2026.4 counts what ceil_mode adds, too.
"""

from __future__ import annotations

import onnx_ir as ir

from ..graph.emit import Emitter
from ..graph.measure import Measured
from ..graph.reading import attribute


def state_padding(model: ir.Model, shapes: Measured) -> None:
    """Change attributes in place where the sizes differ; results keep their values."""
    emit = Emitter(model.graph, "padded")
    for node in list(model.graph):
        if (
            node.op_type in ("AveragePool", "LpPool", "MaxPool")
            and node.domain == ""
            and attribute(node, "ceil_mode", 0)
        ):
            if _counts_both(node, shapes):
                _pad(emit, node, shapes)
            _state(node, shapes)


def _counts_both(node: ir.Node, shapes: Measured) -> bool:
    """Whether padding counts, and a window reaches beyond it."""
    x, pads = node.inputs[0], list(attribute(node, "pads", ()))
    if x is None or not attribute(node, "count_include_pad", 0) or not any(pads) or "auto_pad" in node.attributes:
        return False
    kernel, rank = attribute(node, "kernel_shape", ()), len(pads) // 2
    strides, dilations = (list(attribute(node, name, [1] * rank)) for name in ("strides", "dilations"))
    return any(
        size is None
        or windows is None
        or (windows - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 > size + pads[i] + pads[rank + i]
        for i, (size, windows) in enumerate(zip(shapes.dims(x)[2:], shapes.dims(node.outputs[0])[2:], strict=True))
    )


def _pad(emit: Emitter, node: ir.Node, shapes: Measured) -> None:
    """Let a Pad give the zeros that count."""
    x, pads, name = node.inputs[0], list(attribute(node, "pads", ())), node.name or node.op_type
    assert x is not None
    rank = len(pads) // 2
    amounts = emit.ints([0, 0, *pads[:rank], 0, 0, *pads[rank:]], f"{name}/pads")
    new = ir.node("Pad", [x, amounts], name=emit.unique(f"{name}/Pad"))
    new.metadata_props.update(node.metadata_props)
    padded = new.outputs[0]
    padded.name, padded.type = emit.unique(f"{name}/padded"), x.type
    for known in (shapes.two, shapes.three):
        shape = known[str(x.name)]
        known[padded.name] = (*shape[:2], *(n + pads[i] + pads[rank + i] for i, n in enumerate(shape[2:])))
    emit.graph.insert_before(node, [new])
    node.replace_input_with(0, padded)
    del node.attributes["pads"]
    del node.attributes["count_include_pad"]


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
