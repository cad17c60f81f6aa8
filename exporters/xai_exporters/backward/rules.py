"""What a rule of the reverse walk is, and the tables that hold them.

A rule is a function `rule(op, step, *dys)` registered for one or several operators:

    @vjp("Sigmoid")
    def sigmoid(op, step, dy):  # y' = y (1 - y)
        y = step.y
        return op.Mul(dy, op.Mul(y, op.Sub(1.0, y)))

It gets one dy per output of the node: None for an output through which nothing comes back. It returns one value per input:
None for an input that gets nothing. The list may be shorter than the inputs; the remaining inputs then get nothing. The rule
writes its nodes through `op` and reads the forward node through `step`. With `broadcasts=True` the values returned have the
output's shape, and the walker sums them over the axes along which an input was broadcast. With `finite=True` the rule gives finite
values for finite ones, whatever the image: then rules further back may multiply by a mask (`Step.finite`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from xai_deploy.foundation.registry import import_all

from ..errors import RuleError
from ..graph.measure import Measured
from ..graph.reading import STRAIGHT, attribute, constant_of
from ..graph.shapes import Dims

Result: TypeAlias = ir.Value | Sequence[ir.Value | None] | None
RuleFunction: TypeAlias = Callable[..., Result]
F = TypeVar("F", bound=RuleFunction)

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
QUANTISES = ("QuantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True)
class Step:
    """One node of the forward graph, as a rule sees it.

    Attributes:
        node: The node.
        shapes: The shapes of all tensors of the graph.
        leads: The positions of its inputs that lie on a path to the target.
        targets: Where the walk goes to.
        finite: Whether what comes back is known to be finite: only then is a product with 0 sure to be 0.
    """

    node: ir.Node
    shapes: Measured
    leads: frozenset[int]
    targets: Container[ir.Value] = ()
    finite: bool = False

    @property
    def x(self) -> ir.Value:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def input(self, position: int) -> ir.Value:
        """An input that the node has."""
        value = self.node.inputs[position]
        assert value is not None
        return value

    def optional(self, position: int) -> ir.Value | None:
        """An input, or None if it is left out."""
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or the operator's default."""
        return attribute(self.node, name, default)

    def constant(self, position: int) -> NDArray[Any] | None:
        """The array of a constant input; None if the input is left out.

        Raises:
            RuleError: The input is computed.
        """
        value = self.optional(position)
        array = constant_of(value)
        if value is not None and array is None:
            raise self.refuse(f"its input {position} is computed; it has to be a constant")
        return array

    def dims(self, value: ir.Value) -> Dims:
        """The shape of a tensor of the forward graph."""
        return self.shapes.dims(value)

    def axis(self, axis: int, value: ir.Value | None = None) -> int:
        """An axis of the first input (or of `value`), counted from the front."""
        return axis % len(self.dims(self.x if value is None else value))

    def only_first(self) -> None:
        """Check that only the first input lies on a path to the target: the others have to be the network's own weights.

        Raises:
            RuleError: Another input does.
        """
        if self.leads - {0}:
            raise self.refuse(f"its input {min(self.leads - {0})} depends on the target layer; only its first may")

    def refuse(self, reason: str) -> RuleError:
        """The error for a case that the rule does not cover."""
        return RuleError(f"{self.node.op_type} (node {self.node.name!r}) can't be propagated through: {reason}")


@dataclass(frozen=True)
class Rule:
    """A function and how the walker treats what it returns."""

    function: RuleFunction
    broadcasts: bool
    finite: bool = False


class Table(Protocol):
    """What the walker asks a table: the rule of each node, and at which tensors the walk stops."""

    def find(self, node: ir.Node) -> Rule:
        """See `RuleTable.find`."""

    def stops(self, value: ir.Value, leading: Container[ir.Value]) -> bool:
        """See `RuleTable.stops`."""


class RuleTable:
    """Operator -> rule, filled by the modules of one package (law 2: no list is kept elsewhere).

    Args:
        package: Full name of the package whose modules fill it (or of the one module that does).
        over: A table whose rules hold for the operators that this one has no rule for.
    """

    def __init__(self, package: str, over: RuleTable | None = None) -> None:
        self._package = package
        self._over = over
        self._rules: dict[str, Rule] = {}
        self._flat: set[str] = set()
        self._complete = False

    def __call__(self, *ops: str, broadcasts: bool = False, finite: bool = False) -> Callable[[F], F]:
        """Decorator: the rule of these operators.

        Raises:
            ValueError: One has a rule already.
        """

        def enter(function: F) -> F:
            for name in ops:
                self._refuse_twice(name)
                self._rules[name] = Rule(function, broadcasts, finite)
            return function

        return enter

    def flat(self, *ops: str) -> None:
        """List operators through which nothing propagates: integers, comparisons, steps.

        Raises:
            ValueError: One has a rule already.
        """
        for name in ops:
            self._refuse_twice(name)
            self._flat.add(name)

    def find(self, node: ir.Node) -> Rule:
        """The rule of a node.

        Raises:
            RuleError: There is no rule. The message names the operator, the node, what to do without a rule, and where one belongs.
        """
        self._import_all()
        if STRAIGHT in node.metadata_props:
            return Rule(_straight, broadcasts=False, finite=True)
        if node.op_type in self._rules:
            return self._rules[node.op_type]
        if self._over is not None:
            return self._over.find(node)
        folder = self._package.replace(".", "/")
        raise RuleError(
            f"no rule for the operator {node.op_type} (node {node.name!r}): name a layer after it with --split, or use methods "
            "that only run the network (reciprocam, score-cam, rise). A rule would be "
            f'@{self._package.rpartition(".")[2]}("{node.op_type}") in a file of exporters/{folder}/'
        )

    def stops(self, value: ir.Value, leading: Container[ir.Value]) -> bool:
        """Whether nothing propagates through a node's output: the node is listed as flat, or it makes integers of floats that lead.

        The codes of a quantised tensor stand for floats, so they do not stop the walk: QuantizeLinear makes them, and Transpose,
        MaxPool and the like pass them on. The scale and the zero point that DynamicQuantizeLinear computes count as constants.
        """
        self._import_all()
        node = value.producer()
        assert node is not None
        if STRAIGHT in node.metadata_props:
            return False
        if node.op_type in self._flat or (self._over is not None and self._over.stops(value, leading)):
            return True
        if node.op_type in QUANTISES:
            return value is not node.outputs[0]
        # an unknown type counts as float
        if value.dtype is None or value.dtype in FLOATS:
            return False
        return all(x.dtype is None or x.dtype in FLOATS for x in node.inputs if x is not None and x in leading)

    def __iter__(self) -> Any:
        """The operators that have a rule, sorted."""
        self._import_all()
        return iter(sorted(self._rules))

    def _refuse_twice(self, name: str) -> None:
        if name in self._rules or name in self._flat:
            raise ValueError(f"{self._package}: {name!r} is registered twice")

    def _import_all(self) -> None:
        # on first use, because the modules that hold the rules import the table
        if not self._complete:
            self._complete = True
            import_all(self._package)


def _straight(op: object, step: Step, dy: ir.Value) -> ir.Value:
    """The rounding of a quantiser counts as the identity (the straight-through estimator)."""
    return dy


def floats_of(value: ir.Value) -> np.dtype[Any]:
    """The element type for constants used with a tensor: its own; float32 if that is unknown, or no float (codes)."""
    dtype = value.dtype
    return dtype.numpy() if dtype in FLOATS and dtype is not None else np.dtype(np.float32)
