"""Recurrent layers as ONNX's: the batch comes second there, and the gates of an LSTM have another order.

Specification: openvino.ai, LSTMSequence-5, LSTMCell-4, GRUSequence-5, RNNSequence-5; onnx.ai, LSTM, GRU, RNN. N images, T steps,
I inputs, h hidden units, D directions, g gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ....graph.emit import Ops
from ..layer import Layer, rule

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ORDER = {"LSTM": (1, 3, 0, 2), "GRU": (0, 1, 2), "RNN": (0,)}
"""ONNX's gates (input, output, forget, cell) among OpenVINO's (forget, input, cell, output); the others are alike."""


@rule("LSTMSequence")
@rule("GRUSequence")
@rule("RNNSequence")
def sequence(op: Ops, layer: Layer) -> Sequence[ir.Value]:
    """X [N,T,I], H [N,D,h], (C), lengths [N], W, R, B -> Y [N,D,T,h], H [N,D,h], (C)."""
    kind = layer.type.removesuffix("Sequence")
    states = 2 if kind == "LSTM" else 1
    lengths = layer.constant(1 + states)
    steps = layer.dims()[1]
    of_each = None
    if lengths is None or (lengths != steps).any():
        of_each = op.Cast(layer.x(1 + states), to=ir.DataType.INT32)
    first = [op.Transpose(layer.x(i), perm=[1, 0, 2]) for i in range(1, 1 + states)]
    parts = [layer.require(2 + states + i, "weights") for i in range(3)]
    y, *last = _layer(op, layer, op.Transpose(layer.x(), perm=[1, 0, 2]), first, parts, of_each)
    return [op.Transpose(y, perm=[2, 1, 0, 3]), *(op.Transpose(state, perm=[1, 0, 2]) for state in last)]


@rule("LSTMCell")
@rule("GRUCell")
@rule("RNNCell")
def cell(op: Ops, layer: Layer) -> Sequence[ir.Value]:
    """One step: X [N,I], H [N,h], (C), W, R, B -> H [N,h], (C)."""
    states = 2 if layer.type == "LSTMCell" else 1
    first = [op.Unsqueeze(layer.x(i), [0]) for i in range(1, 1 + states)]
    parts = [layer.require(1 + states + i, "weights")[None] for i in range(3 if len(layer) > 3 + states else 2)]
    if len(parts) == 2:  # the bias may be left out
        rows = _GATES[layer.type.removesuffix("Cell")] + bool(layer.attr("linear_before_reset", False))
        parts.append(np.zeros((1, rows * int(layer.attr("hidden_size"))), np.float32))
    _, *last = _layer(op, layer, op.Unsqueeze(layer.x(), [0]), first, parts, None)
    return [op.Squeeze(state, [0]) for state in last]


def _layer(
    op: Ops, layer: Layer, x: ir.Value, states: Sequence[ir.Value], parts: Sequence[NDArray[Any]], lengths: ir.Value | None
) -> Sequence[ir.Value]:  # fmt: skip
    """ONNX's operator on X [T,N,I] and states [D,N,h] with OpenVINO's W [D,gh,I], R [D,gh,h], B [D,gh or (g+1)h]."""
    kind = layer.type.removesuffix("Sequence").removesuffix("Cell")
    hidden, gates = int(layer.attr("hidden_size")), _GATES[kind]
    if kind == "LSTM" and layer.attr("input_forget", False):
        raise layer.refuse("couples its input and forget gates, which is not known here")
    weights, recurrent, bias = (_sorted(part, kind, hidden) for part in parts)
    ours = np.zeros_like(bias[:, : gates * hidden])
    before_reset = kind == "GRU" and bool(layer.attr("linear_before_reset", False))
    if before_reset:  # the hidden gate's bias of R h is a fourth one
        ours[:, -hidden:] = bias[:, gates * hidden :]
        bias = bias[:, : gates * hidden]
    attributes: dict[str, Any] = {
        "hidden_size": hidden,
        "direction": str(layer.attr("direction", "forward")).lower(),
        "activations": _activations(layer, len(weights)),
    }
    if before_reset:
        attributes["linear_before_reset"] = 1
    if float(layer.attr("clip", 0.0)):
        attributes["clip"] = float(layer.attr("clip"))
    for name in ("alpha", "beta"):
        given = [float(v) for v in layer.attr(f"activations_{name}") or []]
        if given:
            attributes[f"activation_{name}"] = given * len(weights)
    inputs = [op.emit.constant(np.ascontiguousarray(array, np.float32), f"{layer.name}/{name}")
              for array, name in ((weights, "W"), (recurrent, "R"), (np.concatenate([bias, ours], 1), "B"))]  # fmt: skip
    node = ir.node(
        kind, [x, *inputs, lengths, *states], attributes=attributes, num_outputs=1 + len(states),
        name=op.emit.unique(f"inner/{layer.name}/{kind}"),
    )  # fmt: skip
    for number, value in enumerate(node.outputs):
        value.name = op.emit.unique(f"{node.name}/{number}")
    op.emit.graph.append(node)
    return node.outputs


def _sorted(part: NDArray[Any], kind: str, hidden: int) -> NDArray[Any]:
    """Rows [D, gates * h, ...] in ONNX's order of the gates; what follows the gates stays."""
    rows = np.arange(part.shape[1]).reshape(-1, hidden)
    order = [*_ORDER[kind], *range(_GATES[kind], len(rows))]
    return np.asarray(part[:, rows[order].ravel()])


def _activations(layer: Layer, directions: int) -> list[str]:
    """Their names in ONNX, for each direction.

    Raises:
        GraphError: One is not among those of ONNX.
    """
    known = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "hardsigmoid": "HardSigmoid", "softsign": "Softsign"}
    names = [str(name).lower() for name in layer.attr("activations") or []]
    strange = next((name for name in names if name not in known), None)
    if strange is not None:
        raise layer.refuse(f"its activation {strange} is not among {', '.join(known)}")
    return [known[name] for name in names] * directions
