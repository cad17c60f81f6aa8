"""Walks through a graph in its order, and computes what is known of each result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..messages import Node, ParsedGraph, Tensor
from ..tensors import FEW_INTEGERS, MAX_RANK, size_of, values_of
from .bounds import bounds_of
from .folding import fold
from .harm import check_harm, integers
from .ranges import Ends, range_of
from .rules import Call, Known, Unknowable, rules

_FROM_SIZES = ("Shape", "Size")  # read sizes alone, so their results count as constants


class Run:
    """A graph whose small constants are read once, and whose inputs may be of any batch.

    Args:
        graph: A graph whose structure and tensors have passed their checks.
        data: The file's bytes; not kept.
        windows: Refuse a pooling whose window is far larger than its input.
    """

    def __init__(self, graph: ParsedGraph, data: bytes, windows: bool = True) -> None:
        self.graph, self._windows = graph, windows
        self._constants = {
            tensor.name: Known(tuple(tensor.dims), size_of(tensor.dtype), values_of(tensor, data), constant=True)
            for tensor in graph.tensors
        }
        self._whole = integers(graph)
        # Keyed by id, because a node is a mutable dataclass and has no hash.
        self._values = {id(node): value for node in graph.nodes if (value := _attribute_value(node, data)) is not None}

    def results(self, inputs: Mapping[str, Known]) -> Iterator[tuple[Node, list[Known]]]:
        """What is known of each node's outputs, in order.

        Args:
            inputs: What is known of each input, by name.

        Raises:
            Unknowable: Sizes can't be computed, or attributes and inputs do not go together.
            Harmful: A runtime would crash on a node.
        """
        known: dict[str, Known] = {**self._constants, **inputs}
        for node in self.graph.nodes:
            call = Call(node, [known[name] if name else None for name in node.inputs], self.graph.opset)
            try:
                check_harm(call, self._whole, self._windows)
                outputs = rules[node.op](call)
                self._follow(call, outputs)
            except (IndexError, ValueError, TypeError, OverflowError, ZeroDivisionError):
                raise Unknowable(f"{node} has attributes or inputs that do not go together") from None
            if any(len(one.shape) > MAX_RANK for one in outputs):
                raise Unknowable(f"{node} gives a tensor of more than {MAX_RANK} axes")
            outputs = outputs[: len(node.outputs)]  # a rule may describe optional outputs that the node leaves out
            known.update(zip(node.outputs, outputs, strict=False))
            yield node, outputs

    def _follow(self, call: Call, outputs: list[Known]) -> None:
        """Add to a node's outputs what is known of their values."""
        bounds = bounds_of(call, self._whole)
        constant = call.node.op in _FROM_SIZES or all(one.constant for one in call.given())
        for one, values in zip(outputs, self._values_of(call, outputs), strict=True):
            one.constant, one.values, one.bounds = constant, values, bounds
        for one, ends in zip(outputs, self._ranges_of(call, outputs), strict=True):
            one.range = ends

    def _values_of(self, call: Call, outputs: list[Known]) -> list[NDArray[Any] | None]:
        node = call.node
        if "value" in node.attributes and node.op == "Constant":
            return [self._values.get(id(node))]
        if "value" in node.attributes and node.op == "ConstantOfShape":
            value = self._values.get(id(node))
            if value is None or value.size != 1 or outputs[0].count > FEW_INTEGERS or not outputs[0].exact:
                return [None]
            return [np.full(outputs[0].shape, value.reshape(()))]
        if node.op in _FROM_SIZES:
            x = call[0]
            if not x.exact:
                return [None]
            if node.op == "Size":
                return [np.array(x.count, np.int64)] if x.count < 1 << 62 else [None]  # int64
            part = slice(call.number("start", 0), node.attributes.get("end"))
            return [np.array(x.shape[part], np.int64)]
        return fold(call, [one.shape for one in outputs])

    def _ranges_of(self, call: Call, outputs: list[Known]) -> list[Ends | None]:
        """As `_values_of`, the bounds of values that are not known."""
        if call.node.op in _FROM_SIZES and not call[0].exact:
            part = slice(call.number("start", 0), call.node.attributes.get("end"))
            most = np.array(call[0].shape[part] if call.node.op == "Shape" else call[0].count, np.int64)
            return [(np.zeros_like(most), most)]
        if any(one.values is not None or not one.exact for one in outputs):
            return [None] * len(outputs)
        return range_of(call, [one.shape for one in outputs])


def _attribute_value(node: Node, data: bytes) -> NDArray[Any] | None:
    value = node.attributes.get("value")
    return values_of(value, data) if isinstance(value, Tensor) else None
