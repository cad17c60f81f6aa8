"""RNN, GRU and LSTM written out step by step, so that what propagates back needs no rule for them.

This is done in graphs that propagate back alone; head and tail keep the operator. The formulas are those of ONNX's operator
specification. Values named as gates are marked: they weigh signals, and take no relevance (Arras et al. 2017, arXiv:1706.07206).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from ..graph.emit import Emitter, Ops
from ..graph.measure import Measured
from ..graph.reading import constant_of
from .rules import Step, floats_of

GATE = "xai/gate"
"""Mark in the `meta` of a value that weighs signals."""

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_ACTIVATIONS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_KNOWN: dict[str, dict[str, float]] = {
    "Sigmoid": {}, "Tanh": {}, "Relu": {}, "Softsign": {}, "Softplus": {}, "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Elu": {"alpha": 1.0}, "LeakyRelu": {"alpha": 0.01}, "ThresholdedRelu": {"alpha": 1.0}, "Affine": {"alpha": 1.0, "beta": 0.0},
    "ScaledTanh": {"alpha": 1.0, "beta": 1.0},
}  # fmt: skip
"""Activation -> its parameters, and what they are if the node does not say. The last two are no operators of ONNX's."""
_SPELT = {name.lower(): name for name in _KNOWN}  # ONNX does not tell capitals apart
_STEPS = (
    512  # of all nodes and directions: a step makes about 45 nodes, and a runtime takes minutes to open a graph of more
)

State = tuple[ir.Value | None, ir.Value | None]
"""The hidden state and the cell (of LSTM), [B,H]; None for zeros."""


def unroll(graph: ir.Graph, shapes: Callable[[], Measured]) -> bool:
    """Write out every recurrent node of a graph, in place; the tensors that it gives keep their names.

    Args:
        graph: The graph, its nodes in order.
        shapes: Measures the graph; called if it is needed.

    Returns:
        Whether there were any.

    Raises:
        RuleError: A node is used in a way that is not covered; the message says which.
    """
    nodes = [node for node in graph if node.op_type in _GATES and node.domain in ("", "ai.onnx")]
    if not nodes:
        return False
    measured, emit, total = shapes(), Emitter(graph, "steps"), 0
    for node in nodes:
        start, step = len(graph), Step(node, measured, frozenset())
        recurrent = _Recurrent(emit, step)
        total += recurrent.steps * len(recurrent.directions)
        if total > _STEPS:
            raise step.refuse(f"up to it the recurrent operators make {total} steps, more than {_STEPS}")
        results = recurrent.outputs()
        new = list(graph)[start:]
        graph.remove(new)
        pairs = [(old, value) for old, value in zip(node.outputs, results, strict=False) if old.name]
        names = [str(old.name) for old, _ in pairs]
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], new, [old for old, _ in pairs], [value for _, value in pairs]
        )
        for (_, value), name in zip(pairs, names, strict=True):
            value.name = name
    return True


class _Recurrent:
    """One node: x [T,B,I] with W [D,gH,I], R [D,gH,H] and B [D,2gH] for D directions and g gates."""

    def __init__(self, emit: Emitter, step: Step) -> None:
        self.step, self.kind = step, step.node.op_type
        self.op = Ops(emit, str(step.node.name), floats_of(step.x))
        self.gates, self.hidden = _GATES[self.kind], int(step.dims(step.input(2))[-1] or 0)
        self.directions = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}[
            self._text("direction", "forward")
        ]
        per = len(_ACTIVATIONS[self.kind])
        stated = step.attr("activations", _ACTIVATIONS[self.kind] * len(self.directions))
        given = [_SPELT.get(str(name).lower(), str(name)) for name in stated]
        steps = step.dims(step.x)[0]
        self._check(steps, given)
        parameters = self._parameters(given)
        every = list(zip(given, parameters, strict=True))
        self.activations = [every[i * per : (i + 1) * per] for i in range(len(self.directions))]
        self.steps = int(steps or 0)
        lengths = step.optional(4)
        known = constant_of(lengths)
        self._inside: dict[int, ir.Value] = {}
        self.lengths = None if known is not None and (known == steps).all() else lengths

    def _text(self, name: str, default: str) -> str:
        value = self.step.attr(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def _check(self, steps: int | None, activations: Sequence[str]) -> None:
        step = self.step
        if step.attr("layout", 0):
            raise step.refuse("its layout is 1, the batch first; export it with layout 0")
        if steps is None:
            raise step.refuse("its sequence grows with the batch")
        strange = next((name for name in activations if name not in _KNOWN), None)
        if strange is not None:
            raise step.refuse(f"its activation {strange} is not among {', '.join(_KNOWN)}")

    def _parameters(self, activations: Sequence[str]) -> list[dict[str, float]]:
        """The parameters of each activation: those that have one take the next entry of `activation_alpha` or `activation_beta`."""
        left = {key: list(self.step.attr(f"activation_{key}", [])) for key in ("alpha", "beta")}
        return [
            {key: float(left[key].pop(0)) if left[key] else default for key, default in _KNOWN[name].items()}
            for name in activations
        ]

    def outputs(self) -> list[ir.Value]:
        """Y [T,D,B,H], Y_h [D,B,H] and, of LSTM, Y_c [D,B,H]."""
        op = self.op
        every, hidden, cells = [], [], []
        for index, direction in enumerate(self.directions):
            order = range(self.steps)[::direction]
            states = self._run(index, order)
            rows = [op.Unsqueeze(self._within(t, states[order.index(t)][0], None), [0]) for t in range(self.steps)]
            every.append(op.Unsqueeze(op.Concat(*rows, axis=0), [1]))
            h, c = states[-1]
            hidden.append(op.Unsqueeze(h, [0]))
            cells += [] if c is None else [op.Unsqueeze(c, [0])]
        y = op.Concat(*every, axis=1)
        return [y, *(op.Concat(*last, axis=0) for last in (hidden, cells) if last)]

    def _run(self, index: int, order: range) -> list[State]:
        """The states after each step of one direction, in the order of the steps."""
        op, step = self.op, self.step
        w, r = (op.Transpose(op.Gather(step.input(i), np.int64(index), axis=0), perm=[1, 0]) for i in (1, 2))
        x = op.MatMul(step.x, w)  # of all steps at once, [T,B,gH]
        bias = step.optional(3)
        halves: list[ir.Value | None] = [None, None]
        if bias is not None:
            halves = [*self._split(op.Gather(bias, np.int64(index), axis=0), 0, [self.gates * self.hidden] * 2)]
        if halves[0] is not None:
            x = op.Add(x, halves[0])
        inputs = [op.Squeeze(part, [0]) for part in self._split(x, 0, [1] * self.steps)]
        peepholes: list[ir.Value | None] | None = None
        if (given := step.optional(7)) is not None:
            peepholes = [*self._split(op.Gather(given, np.int64(index), axis=0), 0, [self.hidden] * 3)]
        first = [
            None if v is None else op.Gather(v, np.int64(index), axis=0) for v in (step.optional(5), step.optional(6))
        ]
        states: list[State] = [(first[0], first[1])]
        for t in order:
            h, c = states[-1]
            match self.kind:
                case "LSTM":
                    states.append(self._lstm(index, self._sum(inputs[t], h, r, halves[1]), c, peepholes))
                case "GRU":
                    states.append((self._gru(index, inputs[t], h, r, halves[1]), None))
                case _:
                    total = self._sum(inputs[t], h, r, halves[1])
                    states.append((self._act(index, 0, total), None))
            new, cell = states[-1]
            states[-1] = self._within(t, new, h), None if cell is None else self._within(t, cell, c)
        return states[1:]

    def _within(self, t: int, value: ir.Value | None, other: ir.Value | None) -> ir.Value:
        """The value in sequences that have a step `t`; else the other one, or 0: beyond its length a sequence keeps its state.

        A sequence read backwards begins at its own end, before which its state is the first one.
        """
        assert value is not None
        if self.lengths is None:
            return value
        if t not in self._inside:
            lengths = self.op.Cast(self.op.Unsqueeze(self.lengths, [1]), to=int(ir.DataType.INT64))
            self._inside[t] = self.op.Greater(lengths, np.int64(t))  # [B,1]
        result: ir.Value = self.op.Where(self._inside[t], value, 0.0 if other is None else other)
        return result

    def _sum(self, x: ir.Value, h: ir.Value | None, r: ir.Value, bias: ir.Value | None) -> ir.Value:
        """x + h R^T + b."""
        total = x if h is None else self.op.Add(x, self.op.MatMul(h, r))
        return total if bias is None else self.op.Add(total, bias)

    def _lstm(
        self, index: int, total: ir.Value, c: ir.Value | None, peepholes: Sequence[ir.Value | None] | None
    ) -> State:
        """C = f C + i c~, H = o h(C); with peepholes the gates see the cell, and with input_forget f = 1 - i."""
        op = self.op
        i, o, f, new = self._split(total, 1, [self.hidden] * 4)
        p_i, p_o, p_f = peepholes or (None, None, None)
        i = self._gate(index, self._peep(i, c, p_i))
        cell = op.Mul(i, self._act(index, 1, new))
        if c is not None:
            coupled = self.step.attr("input_forget", 0)
            forget = self._marked(op.Sub(1.0, i)) if coupled else self._gate(index, self._peep(f, c, p_f))
            cell = op.Add(op.Mul(forget, c), cell)
        o = self._gate(index, self._peep(o, cell, p_o))
        return op.Mul(o, self._act(index, 2, cell)), cell

    def _peep(self, gate: ir.Value, cell: ir.Value | None, weight: ir.Value | None) -> ir.Value:
        return gate if weight is None or cell is None else self.op.Add(gate, self.op.Mul(cell, weight))

    def _gru(self, index: int, x: ir.Value, h: ir.Value | None, r: ir.Value, bias: ir.Value | None) -> ir.Value:
        """H = (1 - z) h~ + z H, h~ = g(x + (r H) R^T + b), or g(x + r (H R^T + b)) with linear_before_reset."""
        op, sizes = self.op, [2 * self.hidden, self.hidden]
        x_gates, x_new = self._split(x, 1, sizes)
        r_gates, r_new = self._split(r, 1, sizes)
        b_gates, b_new = (None, None) if bias is None else self._split(bias, 0, sizes)
        z, reset = self._split(self._sum(x_gates, h, r_gates, b_gates), 1, [self.hidden] * 2)
        z, reset = self._gate(index, z), self._gate(index, reset)
        if not self.step.attr("linear_before_reset", 0):
            new = self._sum(x_new, None if h is None else op.Mul(reset, h), r_new, b_new)
        else:
            inner = b_new if h is None else self._sum(op.MatMul(h, r_new), None, r_new, b_new)
            new = x_new if inner is None else op.Add(x_new, op.Mul(reset, inner))
        new = op.Mul(self._marked(op.Sub(1.0, z)), self._act(index, 1, new))
        return new if h is None else op.Add(new, op.Mul(z, h))

    def _gate(self, index: int, value: ir.Value) -> ir.Value:
        return self._marked(self._act(index, 0, value))

    def _marked(self, value: ir.Value) -> ir.Value:
        value.meta[GATE] = True
        return value

    def _act(self, index: int, place: int, value: ir.Value) -> ir.Value:
        """An activation of a direction; with the attribute `clip` its input is bounded, but not the cell's (as on ONNX Runtime)."""
        bound = self.step.attr("clip") if place < 2 else None
        value = value if bound is None else self.op.Clip(value, -float(bound), float(bound))
        name, parameters = self.activations[index][place]
        if name in ("Affine", "ScaledTanh"):
            alpha, beta = parameters["alpha"], parameters["beta"]
            affine = name == "Affine"
            return (
                self.op.Add(self.op.Mul(value, alpha), beta)
                if affine
                else self.op.Mul(self.op.Tanh(self.op.Mul(value, beta)), alpha)
            )
        result: ir.Value = getattr(self.op, name)(value, **parameters)
        return result

    def _split(self, value: ir.Value, axis: int, sizes: Sequence[int]) -> list[ir.Value]:
        """Parts of these sizes along an axis."""
        if len(sizes) == 1:
            return [value]
        emit = self.op.emit
        name = emit.unique(f"{emit.scope}/{self.step.node.name}/Split")
        node = ir.node(
            "Split",
            [value, emit.shared(np.array(sizes, np.int64))],
            attributes={"axis": axis},
            num_outputs=len(sizes),
            name=name,
        )
        for number, part in enumerate(node.outputs):
            part.name = emit.unique(f"{name}/{number}")
        emit.graph.append(node)
        return list(node.outputs)
