"""What a rule sees of a fused node, and the table of rules.

A rule is a function `rule(op, node)` registered under the operator's name, with its domain unless that is the standard one:

    @rule("com.microsoft.QuickGelu")
    def quick_gelu(op, node):
        x = node.x()
        return op.Mul(x, op.Sigmoid(op.Mul(x, node.attr("alpha", 1.702))))

It writes operators of opset 18 through `op`, and returns one value per output: None for an output that nothing reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.foundation.registry import Registry

from ..errors import GraphError
from ..graph.emit import Ops
from ..graph.reading import attribute, called, constant_of

Rule: TypeAlias = "Callable[[Ops, FusedNode], ir.Value | Sequence[ir.Value | None]]"
F = TypeVar("F", bound=Rule)

rules: Registry[Rule] = Registry("xai_exporters.passes.fused")

OURS = "com.microsoft"


def rule(*names: str) -> Callable[[F], F]:
    """Decorator: the rule of these operators."""

    def enter(function: F) -> F:
        for name in names:
            rules.register(name)(function)
        return function

    return enter


OLD_GROUPS = "GroupNormalization before opset 21"
RECURRENT = ("RNN", "GRU", "LSTM")
BATCH_FIRST = " with layout 1"
COLUMNS_FIRST = "MaxPool with storage_order 1"


def key(node: ir.Node) -> str:
    """The name under which a node's rule is registered."""
    if node.op_type == "GroupNormalization" and node.graph is not None and node.graph.opset_imports.get("", 21) < 21:
        return OLD_GROUPS  # another operator: its scale and bias are for groups; ONNX has withdrawn it
    if node.op_type in RECURRENT and attribute(node, "layout", 0):
        return node.op_type + BATCH_FIRST
    if node.op_type == "MaxPool" and attribute(node, "storage_order", 0) and len(node.outputs) > 1:
        return COLUMNS_FIRST
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


class UnknownShape(Exception):
    """A shape or an element type that a rule needs is not known yet. The pass infers shapes and tries the node again."""


class FusedNode:
    """A node that is to be written as several.

    Args:
        node: The node.
    """

    def __init__(self, node: ir.Node) -> None:
        self.node = node

    def x(self, position: int = 0) -> ir.Value:
        """An input that the node has to have.

        Raises:
            GraphError: It is left out.
        """
        value = self.optional(position)
        if value is None:
            raise self.refuse(f"its input {position} is missing")
        return value

    def optional(self, position: int) -> ir.Value | None:
        """An input, or None if it is left out."""
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def constant(self, position: int) -> NDArray[Any] | None:
        """The array of a constant input; None if it is left out or computed."""
        return constant_of(self.optional(position))

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or the operator's default; text as str."""
        value = attribute(self.node, name, default)
        return value.decode() if isinstance(value, bytes) else value

    def attributes(self, *names: str) -> dict[str, Any]:
        """Those of these attributes that the node has."""
        return {name: self.node.attributes[name].value for name in names if name in self.node.attributes}

    def wants(self, output: int) -> bool:
        """Whether an output is read, or is one of the graph's."""
        outputs = self.node.outputs
        return output < len(outputs) and (bool(outputs[output].uses()) or outputs[output].is_graph_output())

    def rank(self, value: ir.Value) -> int:
        """The number of dimensions of a tensor.

        Raises:
            UnknownShape: It is not known yet.
        """
        shape = _shape(value)
        if shape is None:
            raise UnknownShape
        return len(shape)

    def dim(self, value: ir.Value, axis: int) -> int:
        """A dimension of a tensor that does not depend on the batch.

        Raises:
            UnknownShape: It is not known yet.
        """
        shape = _shape(value)
        size = None if shape is None else shape[axis]
        if not isinstance(size, int):
            raise UnknownShape
        return size

    def without(self, inputs: dict[int, str], outputs: dict[int, str] | None = None) -> None:
        """Check that some inputs are left out, and that nothing reads some outputs.

        Args:
            inputs, outputs: Position -> what it is.

        Raises:
            GraphError: One is there.
        """
        for position, what in inputs.items():
            if self.optional(position) is not None:
                raise self.refuse(f"it has the input {what}; export the network without it")
        for position, what in (outputs or {}).items():
            if self.wants(position):
                raise self.refuse(f"its output {what} is used; export the network without it")

    def refuse(self, reason: str) -> GraphError:
        """The error for a case that the rule does not cover."""
        place = called(self.node.name, (v.name for v in self.node.outputs))
        return GraphError(f"{place} is {key(self.node)}, which can't be written in other operators here: {reason}")


def _shape(value: ir.Value) -> tuple[Any, ...] | None:
    """The known part of a tensor's shape."""
    if value.const_value is not None:
        return tuple(value.const_value.shape)
    return None if value.shape is None else tuple(value.shape)
