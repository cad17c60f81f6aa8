"""Keep OpenVINO from computing what follows a reduction of rows together with the reduction.

OpenVINO 2026.4 computes y = c * reduce(x) + b as one step. If x is [N,C,L], the reduction runs along its last axis and a constant
has a number for each row (C), each image but the first gets the numbers of other rows: token networks that end in mean, BatchNorm
and Linear give other scores for a batch than for its images (transformers' LeViT: by 0.64 of 0.86). Means along the middle axis
are wrong, too, if a Transpose comes before. With four axes all is right, so x gets a fourth one of size 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from .emit import Emitter, Ops
from .reading import attribute, constant_of

_POOLS = ("GlobalAveragePool", "GlobalMaxPool")
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu")
_THROUGH = (
    "Abs", "Cast", "Clip", "Elu", "Erf", "Exp", "Flatten", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log",
    "Mish", "Neg", "Reciprocal", "Relu", "Reshape", "Sigmoid", "Softplus", "Sqrt", "Squeeze", "Tanh", "Unsqueeze",
)  # fmt: skip


def keep_reductions_apart(graph: ir.Graph) -> None:
    """Rewrite such reductions in place; tensors keep their names and shapes."""
    nodes = [node for node in graph if _axis(node) is not None and _meets_rows(node.outputs[0])]
    if not nodes:
        return
    if any(_rank(node) is None for node in nodes):
        common.ShapeInferencePass(check_type=False, strict_mode=False)(ir.Model(graph, ir_version=10))
    rows = [node for node in nodes if _rank(node) == 3]
    emit = Emitter(graph, "rows")
    for node in rows:
        _rewrite(emit, node)
    if rows:
        graph.sort()


def _axis(node: ir.Node) -> int | None:
    """The only axis that a reduction runs along, as the node counts it; None for other operators."""
    if node.op_type in _POOLS:
        return 2
    if not node.op_type.startswith("Reduce") or len(node.inputs) < 2:
        return None
    axes = constant_of(node.inputs[1])
    return int(axes.item()) if axes is not None and axes.size == 1 else None


def _rank(node: ir.Node) -> int | None:
    return None if node.inputs[0] is None or node.inputs[0].shape is None else len(node.inputs[0].shape)


def _meets_rows(value: ir.Value) -> bool:
    """Whether a constant of several numbers is applied to a tensor, at once or after other elementwise operators."""
    pending, seen = [value], set()
    while pending:
        for node, position in pending.pop().uses():
            if node in seen:
                continue
            seen.add(node)
            if node.op_type == "BatchNormalization":
                return True
            others = [constant_of(x) for i, x in enumerate(node.inputs) if i != position]
            if node.op_type in _BINARY and all(other is not None for other in others):
                if any(other is not None and other.size > 1 for other in others):
                    return True
                pending.append(node.outputs[0])
            elif node.op_type in _THROUGH:
                pending.append(node.outputs[0])
    return False


def _rewrite(emit: Emitter, node: ir.Node) -> None:
    """[N,C,L] becomes [N,C,L,1], [N,L,C] becomes [N,L,1,C]; the axis of size 1 is reduced, too."""
    axis = _axis(node)
    assert axis is not None
    axis %= 3
    if axis == 0:
        return  # along the batch
    op = Ops(emit, str(node.name), np.dtype(np.float32))
    wide = op.Unsqueeze(node.inputs[0], [axis + 1])
    if node.op_type in _POOLS:
        result = op.Squeeze(getattr(op, node.op_type)(wide), [3])
    else:
        keep = attribute(node, "keepdims", 1)
        attributes = {name: a for name, a in node.attributes.items() if name != "keepdims"}
        result = emit.node(
            node.op_type, [wide, emit.ints([axis, axis + 1], "axes")], f"{node.name}/reduced", attributes
        )
        made = result.producer()
        assert made is not None
        made.attributes["keepdims"] = ir.AttrInt64("keepdims", keep)
        result = op.Squeeze(result, [axis + 1]) if keep else result
    old, name = node.outputs[0], str(node.outputs[0].name)
    result.type, result.shape = old.type, old.shape
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    emit.graph.remove(node, safe=True)
    result.name = name
