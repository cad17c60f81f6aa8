"""RNN, GRU and LSTM with the batch first: neither ONNX Runtime nor OpenVINO computes them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...graph.emit import Ops
from ..fused_node import BATCH_FIRST, RECURRENT, FusedNode, rule


@rule(*(name + BATCH_FIRST for name in RECURRENT))
def steps_first(op: Ops, node: FusedNode) -> Sequence[ir.Value | None]:
    """The operator with the steps first, between Transposes.

    With layout 1, X is [N,T,I], Y [N,T,D,H], and the states are [N,D,H]; with layout 0 [T,N,I], [T,D,N,H] and [D,N,H].
    """
    inputs = list(node.node.inputs)
    for position in (0, 5, 6):
        if (value := node.optional(position)) is not None:
            inputs[position] = op.Transpose(value, perm=[1, 0, 2])
    kept = {name: attr for name, attr in node.node.attributes.items() if name != "layout"}
    emit, name = op.emit, op.emit.unique(node.node.name or node.node.op_type)
    made = ir.node(node.node.op_type, inputs, attributes=kept, num_outputs=len(node.node.outputs), name=name)
    for number, value in enumerate(made.outputs):
        value.name = emit.unique(f"{name}/{number}")
    emit.graph.append(made)
    turned = zip(made.outputs, ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2]), strict=False)
    return [op.Transpose(y, perm=perm) if node.wants(i) else None for i, (y, perm) in enumerate(turned)]
