"""Which nodes of a tail run on windows, and how large these are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from ...graph.layouts import reduced_axes
from ...graph.measure import Measured
from ...graph.reading import ancestors, attribute, constant_of, descendants
from .span import Span, Sweep, begins, part_lengths, positions, swept, united

Spans = tuple[Span, Span]
"""The windows along the rows and the columns of a map."""

# fmt: off
ELEMENTWISE = frozenset({
    "Abs", "Add", "BatchNormalization", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sub", "Sum",
    "Tanh", "ThresholdedRelu",
})
# fmt: on
SWEPT = frozenset({"Conv", "AveragePool", "MaxPool"})

_MOST = 8 << 20
"""The most numbers in the windows of one tensor: 32 MiB."""
_FEWEST = 12
"""The fewest positions that run at once: below, the nodes themselves take longer than their arithmetic."""
_GAIN = 0.6
"""The part of the multiply-adds of one tail per position up to which windows are worth a graph of their own."""
_WIDE = 0.9
"""The part of a map from which on windows are no longer worth their borders."""


@dataclass
class Plan:
    """How a tail runs on windows.

    Attributes:
        counts: Rows and columns of positions that run at once.
        windows: Tensor -> its windows.
        pooled: Global averages of tensors with windows.
        rest: Tensors that are computed for each position by the ordinary tail.
        cost: The multiply-adds for all positions.
        naive: The same if each position runs the whole tail.
    """

    counts: tuple[int, int]
    windows: dict[ir.Value, Spans] = field(default_factory=dict)
    pooled: set[ir.Value] = field(default_factory=set)
    rest: set[ir.Value] = field(default_factory=set)
    cost: float = 0.0
    naive: float = 0.0
    largest: int = 0


def plan_windows(tail: ir.Graph, shapes: Measured, end: ir.Value) -> Plan | str:
    """The cheapest plan of a tail; why there is none otherwise.

    Args:
        tail: A finished tail of one input, [N,K,h,w].
        shapes: Its measured shapes.
        end: The output that is explained.
    """
    h, w = (int(size or 0) for size in shapes.dims(tail.inputs[0])[2:])
    best: Plan | None = None
    for counts in _counts(h, w):
        plan = _plan(tail, shapes, end, counts)
        if plan.largest <= _MOST and (best is None or plan.cost < best.cost):
            best = plan
    if best is None:
        return "its tensors are too large"
    if best.cost > _GAIN * best.naive:
        first = next((node.op_type for node in tail if node.outputs[0] in best.rest), None)
        from_there = f" (from the first {first} on it takes whole maps)" if first is not None else ""
        return f"windows would save less than {1 - _GAIN:.0%} of the arithmetic{from_there}"
    return best


def _counts(h: int, w: int) -> list[tuple[int, int]]:
    """How many rows and columns of positions may run at once, the most first: blocks, or parts of one row or of two.

    Windows side by side are as long as the longest of them. Those of one row are as high as they have to be.
    """
    blocks = [(-(-h // parts), -(-w // parts)) for parts in range(1, 9)]
    stripes = [(rows, -(-w // parts)) for rows in (2, 1) for parts in range(1, 5) if rows <= h]
    counts = sorted({*blocks, *stripes}, key=math.prod, reverse=True)
    return [one for one in counts if math.prod(one) >= min(_FEWEST, h * w)]


def _plan(tail: ir.Graph, shapes: Measured, end: ir.Value, counts: tuple[int, int]) -> Plan:
    source = tail.inputs[0]
    h, w = (int(size or 0) for size in shapes.dims(source)[2:])
    plan = Plan(counts, {source: (positions(h), positions(w))})
    moving, leading = descendants([source]), ancestors([end])
    runs = len(begins(h, counts[0])) * len(begins(w, counts[1])) * math.prod(counts)
    for node in tail:
        result = node.outputs[0]
        if result not in moving or result not in leading:
            continue
        products = _products(node, shapes)
        plan.naive += h * w * products
        changing = [v for v in node.inputs if v is not None and v in moving]
        spans = _through(node, [plan.windows[v] for v in changing], shapes) if _on_windows(plan, changing) else None
        if spans is not None and (area := _area(spans, counts)) < _WIDE * runs * _cells(spans):
            plan.windows[result] = spans
            plan.cost += products * area / _cells(spans)
            dims = shapes.dims(result)
            widest = math.prod(int(part_lengths(s, c).max()) * c for s, c in zip(spans, counts, strict=True))
            plan.largest = max(plan.largest, int(dims[1] or 1) * widest)
        elif _on_windows(plan, changing) and is_pooling(node, shapes):
            plan.pooled.add(result)
        else:
            plan.rest.add(result)
            plan.cost += runs * products
    return plan


def _on_windows(plan: Plan, values: Sequence[ir.Value]) -> bool:
    return all(v in plan.windows for v in values)


def _cells(spans: Spans) -> int:
    return spans[0].size * spans[1].size


def _area(spans: Spans, counts: tuple[int, int]) -> int:
    """The cells of all windows."""
    rows, columns = (int(part_lengths(s, c).sum()) * c for s, c in zip(spans, counts, strict=True))
    return rows * columns


def _products(node: ir.Node, shapes: Measured) -> int:
    """The multiply-adds of a node for one image, as far as they count."""
    dims = [int(d or 1) for d in shapes.dims(node.outputs[0])]
    if node.op_type == "Conv":
        weight = constant_of(node.inputs[1])
        return 0 if weight is None else math.prod(dims[1:]) * math.prod(weight.shape[1:])
    if node.op_type in ("Gemm", "MatMul") and node.inputs[1] is not None:
        inner = shapes.dims(node.inputs[1])
        return math.prod(dims[1:]) * int(inner[-1 if attribute(node, "transB", 0) else -2] or 1)
    return 0


def _through(node: ir.Node, spans: list[Spans], shapes: Measured) -> Spans | None:
    """The windows of a node's result; None if the node does not run on windows."""
    sizes = [shapes.dims(v) for v in (*node.outputs[:1], *(v for v in node.inputs if v is not None))]
    if len(sizes[0]) != 4 or len([v for v in node.outputs if v.name and v.uses()]) != 1:
        return None
    if node.op_type in SWEPT:
        sweeps = sweeps_of(node)
        if sweeps is None:
            return None
        rows, columns = (
            swept(span, sweep, int(size or 0), node.op_type == "MaxPool")
            for span, sweep, size in zip(spans[0], sweeps, sizes[0][2:], strict=True)
        )
        return rows, columns
    if node.op_type == "Concat":
        if attribute(node, "axis", 0) % 4 != 1 or len(spans) != len(node.inputs):
            return None
    elif node.op_type not in ELEMENTWISE or not _is_elementwise(node, sizes[0], shapes):
        return None
    rows, columns = united([s[0] for s in spans]), united([s[1] for s in spans])
    return rows, columns


def _is_elementwise(node: ir.Node, result: tuple[int | None, ...], shapes: Measured) -> bool:
    """Whether every input is a map of the result's size, or a constant that is the same at all positions."""
    for value in node.inputs:
        if value is None:
            continue
        constant, dims = constant_of(value), shapes.dims(value)
        if constant is None:
            fits = len(dims) == 4 and dims[2:] == result[2:]
        else:  # those of a BatchNormalization are one number for each channel
            fits = node.op_type == "BatchNormalization" or all(size == 1 for size in constant.shape[-2:])
        if not fits:
            return False
    return True


def sweeps_of(node: ir.Node) -> tuple[Sweep, Sweep] | None:
    """How a convolution or a pooling of images passes over rows and columns; None if it has another form."""
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET" or attribute(node, "ceil_mode", 0):
        return None
    if node.op_type == "Conv":
        weight = constant_of(node.inputs[1])
        if weight is None or (
            len(node.inputs) > 2 and node.inputs[2] is not None and constant_of(node.inputs[2]) is None
        ):
            return None
        kernel = weight.shape[2:]
    else:
        kernel = tuple(attribute(node, "kernel_shape", ()))
    if len(kernel) != 2:
        return None
    strides, dilations = (attribute(node, name, (1, 1)) for name in ("strides", "dilations"))
    pads = attribute(node, "pads", (0, 0, 0, 0))
    if node.op_type == "AveragePool" and (
        tuple(dilations) != (1, 1) or (any(pads) and not attribute(node, "count_include_pad", 0))
    ):
        return None
    if node.op_type == "MaxPool" and any(
        (k - 1) * d + 1 - s >= k for k, s, d in zip(kernel, strides, dilations, strict=True)
    ):
        return None  # runtimes pad a pooling by less than its kernel, and windows that lie side by side need more
    rows, columns = (Sweep(int(kernel[i]), int(strides[i]), int(pads[i]), int(dilations[i])) for i in (0, 1))
    return rows, columns


def is_pooling(node: ir.Node, shapes: Measured) -> bool:
    """Whether a node averages over all positions of a map."""
    source = node.inputs[0]
    if source is None or len(shapes.dims(source)) != 4:
        return False
    return node.op_type == "GlobalAveragePool" or (node.op_type == "ReduceMean" and reduced_axes(node) == (2, 3))


def frontier(tail: ir.Graph, plan: Plan, end: ir.Value) -> list[ir.Value]:
    """The tensors at which the ordinary tail begins, in the graph's order."""
    leading = ancestors([end])
    found: dict[ir.Value, None] = {}
    for node in tail:
        result = node.outputs[0]
        if result in plan.rest and result in leading:
            found |= {v: None for v in node.inputs if v is not None and (v in plan.windows or v in plan.pooled)}
    if end in plan.windows or end in plan.pooled:
        found[end] = None
    return list(found)
