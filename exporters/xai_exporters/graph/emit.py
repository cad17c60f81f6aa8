"""The op builder: nodes and constants with explicit, readable names (`grad/layer4.2/conv2`, `tail/layout`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


def unique(name: str, taken: set[str], last: dict[str, int] | None = None) -> str:
    """The name, or the name with a number (`name_2`) if it is taken; the result is added to `taken`.

    Args:
        name: The name.
        taken: Those that are taken.
        last: The last number of each name, kept by the caller: a network unrolled step by step asks thousands of times for one.
    """
    last = {} if last is None else last
    free, number = name, last.get(name, 1)
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    last[name] = number
    taken.add(free)
    return free


class Emitter:
    """Adds nodes to a graph.

    Every value made here is named `scope/name`; a name that is taken gets a number. (Names made up by onnx-ir may
    collide with initializers registered later, so nothing is left unnamed.)
    """

    def __init__(self, graph: ir.Graph, scope: str) -> None:
        self.graph = graph
        self.scope = scope
        self._taken = {str(value.name) for node in graph for value in node.outputs}
        self._taken |= {str(value.name) for value in graph.inputs} | set(graph.initializers)
        self._last: dict[str, int] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def node(
        self, op: str, inputs: Sequence[ir.Value | None], name: str, attributes: Mapping[str, Any] | None = None
    ) -> ir.Value:
        """Append a node with one output and return the output."""
        unique = self._name(name)
        node = ir.node(op, list(inputs), attributes=dict(attributes or {}), name=unique)
        node.outputs[0].name = unique
        self.graph.append(node)
        return node.outputs[0]

    def constant(self, array: np.ndarray[Any, Any], name: str) -> ir.Value:
        """Register an initializer."""
        unique = self._name(name)
        value = ir.Value(
            name=unique,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            const_value=ir.Tensor(array, name=unique),
        )
        self.graph.register_initializer(value)
        return value

    def ints(self, values: Sequence[int], name: str) -> ir.Value:
        """An int64 vector, as shapes and axes are."""
        return self.constant(np.array(values, dtype=np.int64), name)

    def shared(self, array: np.ndarray[Any, Any]) -> ir.Value:
        """An initializer with this content; the same one each time."""
        key = (array.dtype.str, array.shape, array.tobytes())  # by content, so that -0.0 and 0.0 stay two constants
        if key not in self._shared:
            self._shared[key] = self.constant(array, f"constant/{len(self._shared)}")
        return self._shared[key]

    def insert(
        self,
        part: ir.Graph,
        starts: Sequence[ir.Value],
        ends: Sequence[ir.Value],
        begun: Sequence[ir.Value],
        weight: Callable[[ir.Value], ir.Value],
    ) -> list[ir.Value]:
        """Append a copy of what lies between tensors of another graph; its nodes get free names.

        Args:
            part: The other graph; not changed.
            starts: Tensors of it, which the copy begins with.
            ends: Tensors of it, which the copy ends with.
            begun: The tensors of this graph that take the place of `starts`.
            weight: An initializer of the copy -> that of this graph.

        Returns:
            The tensors of this graph that `ends` became.
        """
        copy = ir.convenience.extract(part, starts, ends)
        results = list(copy.outputs)
        copy.outputs.clear()
        for value, start in zip(list(copy.inputs), begun, strict=True):
            value.replace_all_uses_with(start)
        for own in list(copy.initializers.values()):
            own.replace_all_uses_with(weight(own))
        nodes = list(copy)
        copy.remove(nodes)
        for node in nodes:
            node.name = self.unique(str(node.name))
            for value in node.outputs:
                if value.name:
                    value.name = self.unique(value.name)
        self.graph.extend(nodes)
        return results

    def unique(self, name: str) -> str:
        """The name, or the name with a number if it is taken; the result is taken from now on."""
        return unique(name, self._taken, self._last)

    def _name(self, name: str) -> str:
        return self.unique(f"{self.scope}/{name}")


class Ops:
    """ONNX's operators as methods: `op.Conv(x, w, pads=[1, 1, 1, 1])` appends a node and returns its output.

    Numbers and arrays among the inputs become constants. Floats, and arrays of floats, get the type `floats`; ints, and lists of
    ints, get int64, the type of shapes and axes. None leaves an optional input out. Keyword arguments are attributes.
    """

    def __init__(self, emit: Emitter, name: str, floats: np.dtype[Any]) -> None:
        self.emit = emit
        self._name = name
        self.floats = floats

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if not op_type[:1].isupper():  # operators begin with a capital; `__deepcopy__` and the like are none
            raise AttributeError(op_type)

        def append(*inputs: Any, **attributes: Any) -> ir.Value:
            values = [x if x is None or isinstance(x, ir.Value) else self.emit.shared(self._array(x)) for x in inputs]
            return self.emit.node(op_type, values, f"{self._name}/{op_type}", attributes)

        return append

    def _array(self, content: Any) -> np.ndarray[Any, Any]:
        array = np.asarray(content)
        if array.dtype.kind in "iu" or array.size == 0:  # an empty list, as a scalar's shape is, has no type of its own
            return array.astype(np.int64)
        return array.astype(self.floats) if array.dtype.kind == "f" else array
