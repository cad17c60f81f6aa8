"""Layers that read decisions, which nothing passes backwards: the signs of a binary network, numbers rounded without a scale."""

from __future__ import annotations

import onnx_ir as ir

from ..graph.reading import STRAIGHT, called, signals

_DECIDE = ("Ceil", "Floor", "Round", "Sign")
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_PASSED = ("Add", "Cast", "Clip", "Flatten", "Identity", "Mul", "Pad", "Relu", "Reshape", "Sub", "Transpose")


def said_of_decided(graph: ir.Graph) -> str | None:
    """What to tell of layers that read decisions; None if there are none.

    Decisions of two signals (a sign times what it is the sign of) are not meant: their gradient is what the formula gives.
    """
    found = [
        node for node in graph if node.op_type in _DECIDE and STRAIGHT not in node.metadata_props and _is_read(node)
    ]
    if not found:
        return None
    others = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"{called(found[0].name, [found[0].outputs[0].name])} ({found[0].op_type}){others} decides what a layer reads, so "
        "gradients and relevance pass it by: they are those of the other paths alone"
    )


def _is_read(node: ir.Node) -> bool:
    """Whether a layer reads a node's result, moved, scaled or bounded by constants."""
    pending = list(node.outputs)
    for value in pending:
        for reader in value.consumers():
            if reader.op_type in _LAYERS:
                return True
            if reader.op_type in _PASSED and len(signals(reader)) == 1:
                pending += [out for out in reader.outputs if out not in pending]
    return False
