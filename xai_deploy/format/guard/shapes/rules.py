"""The table of shape rules, and the classes and functions that rules are written with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from ..messages import Node, short

Shape = tuple[int, ...]


class Unknowable(Exception):
    """A tensor's sizes can't be computed before the graph runs."""


class Harmful(Exception):
    """A node on which runtimes crash, or ask for all memory."""


Bounds: TypeAlias = tuple[Any, Any]
"""int64 of no axis, or [last]."""


@dataclass(slots=True)
class Known:
    """What is known of a tensor.

    Attributes:
        shape: Its sizes, or upper bounds of them if `exact` is not set.
        size: Bytes of an element.
        values: Its values, if it is small and they do not depend on what the image shows; else None.
        exact: Whether the sizes are exact.
        constant: Whether it depends on no input, or only on the shapes of inputs: a runtime computes it as it loads the graph.
        work: Multiplications for each of its elements.
        scratch: Bytes that a runtime takes beside it while it computes it.
        bounds: The least and the largest whole number that it can hold, see `bounds.bounds_of`; None if they are not known.
        range: The least and the largest value of each entry, if it is small and holds sizes that are bounded; see `ranges`.
    """

    shape: Shape
    size: int = 4
    values: NDArray[Any] | None = None
    exact: bool = True
    constant: bool = False
    work: int = 0
    scratch: int = 0
    bounds: Bounds | None = None
    range: tuple[NDArray[Any], NDArray[Any]] | None = None

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def like(self, shape: Shape, size: int | None = None) -> Known:
        """A tensor of other sizes, as exact as this one."""
        return Known(shape, self.size if size is None else size, exact=self.exact)


@dataclass(slots=True)
class Call:
    """A node, the opset, and what is known of its inputs (None: left out)."""

    node: Node
    inputs: Sequence[Known | None]
    opset: int

    def __getitem__(self, index: int) -> Known:
        """A required input.

        Raises:
            Unknowable: The input is left out.
        """
        known = self.get(index)
        if known is None:
            raise Unknowable(f"{self.node} lacks its input {index}")
        return known

    def get(self, index: int) -> Known | None:
        """An input; None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def given(self) -> list[Known]:
        """The inputs that are not left out."""
        return [known for known in self.inputs if known is not None]

    def number(self, name: str, default: int) -> int:
        """A whole number among the attributes.

        Raises:
            Unknowable: It is of another type.
        """
        value = self.node.attributes.get(name, default)
        if type(value) is not int:
            raise Unknowable(f"{self.node} has a wrong {short(name)}")
        return value

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        """A list of whole numbers among the attributes.

        Raises:
            Unknowable: It is of another type.
        """
        value = self.node.attributes.get(name, default)
        if value is not None and not all(type(one) is int for one in value):
            raise Unknowable(f"{self.node} has a wrong {short(name)}")
        return None if value is None else list(value)

    def text(self, name: str, default: bytes) -> bytes:
        """A text among the attributes; the default if it is of another type."""
        value = self.node.attributes.get(name, default)
        return value if isinstance(value, bytes) else default

    def values(self, index: int) -> list[Any] | None:
        """The values of an input as a flat list; None if it is left out.

        Raises:
            Unknowable: They depend on what the image shows, or there are too many.
        """
        known = self.get(index)
        if known is None:
            return None
        if known.values is None:
            raise Unknowable(f"the result of {self.node} depends on values that are not known before it runs")
        return list(known.values.reshape(-1).tolist())

    def sizes(self, index: int) -> tuple[list[Any], list[Any]]:
        """The least and the largest values of an input that holds sizes, as flat lists: twice its values if these are known.

        Raises:
            Unknowable: The input is left out, or has no bounds.
        """
        known = self[index]
        if known.values is not None or known.range is None:
            values = self.values(index) or []
            return values, values
        low, high = (end.reshape(-1).tolist() for end in known.range)
        return low, high

    def axes(self, index: int, rank: int) -> list[int] | None:
        """The axes by the attribute `axes` or, in newer opsets, by an input, counted from the front; None if neither is given."""
        axes = self.ints("axes")
        if axes is None:
            axes = self.values(index)
        return None if axes is None else [self.axis(axis, rank) for axis in axes]

    def axis(self, axis: Any, rank: int) -> int:
        """An axis, counted from the front.

        Raises:
            Unknowable: It lies outside of the rank.
        """
        # `max`: a scalar accepts the axis 0.
        if type(axis) is not int or not -rank <= axis < max(rank, 1):
            raise Unknowable(f"{self.node} has the axis {axis} of {rank}")
        return axis + rank if axis < 0 else axis


Rule = Callable[[Call], list[Known]]
rules: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a shape rule for some operators. A rule takes a call and returns what is known of each output."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            assert operator not in rules, operator
            rules[operator] = function
        return function

    return register


def single(known: Known) -> int:
    """Bytes of an element where a runtime computes in float32 at least."""
    return max(4, known.size)


def broadcast(*inputs: Known) -> Shape:
    """The shape after broadcasting. If two sizes contradict, the larger one counts, and the runtime will refuse the graph."""
    rank = max(len(known.shape) for known in inputs)
    shape = [1] * rank
    for known in inputs:
        for i, size in enumerate(known.shape, rank - len(known.shape)):
            if size != 1:  # 1 gives way to every size, also to 0
                shape[i] = size if shape[i] == 1 else max(size, shape[i])
    return tuple(shape)


def exact(*inputs: Known | None) -> bool:
    """Whether the sizes of all inputs are exact."""
    return all(known is None or known.exact for known in inputs)
