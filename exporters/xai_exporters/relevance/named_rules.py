"""Rules by name, with parameters, as composites write them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import onnx_ir as ir

from xai_deploy.foundation.registry import Registry

from ..backward.rules import Result, Step
from ..errors import RequestError
from ..graph.emit import Ops


class NamedRule(Protocol):
    """A rule with its parameters fixed: a frozen dataclass, its fields the parameters.

    Attributes:
        kinds: The operators that it is for if a composite gives it to a module.
    """

    kinds: ClassVar[tuple[str, ...]]

    def __call__(self, op: Ops, step: Step, /, *rs: ir.Value | None) -> Result:
        """The relevance of each output -> that of each input, as a rule of a table."""


rules: Registry[type[Any]] = Registry(__package__)
"""Name -> class of the rule, a `NamedRule`: `@rules.register("epsilon")` above it."""


def make_rule(given: object, where: str) -> NamedRule:
    """A rule from "name", or from {rule = "name", parameter = value, ...}.

    Args:
        given: What the composite says.
        where: Where it says so, for messages.

    Raises:
        RequestError: No such rule or parameter, or a value that it does not take.
    """
    table: Mapping[str, Any] = (
        {"rule": given} if isinstance(given, str) else given if isinstance(given, Mapping) else {}
    )
    name = table.get("rule")
    if not isinstance(name, str):
        raise RequestError(f'{where}: a rule is "NAME" or {{rule = "NAME", ...}}, not {given!r}')
    cls = rules.get(name)
    if cls is None:
        raise RequestError(f"{where}: no rule {name!r}; there are {', '.join(rules)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key == "rule":
            continue
        if key not in fields:
            offer = f"it has {', '.join(fields)}" if fields else "it has none"
            raise RequestError(f"{where}: {name} has no parameter {key!r}; {offer}")
        values[key] = _checked(hints[key], value, f"{where}: {name}: {key}")
    needed = [key for key, field in fields.items() if field.default is dataclasses.MISSING and key not in values]
    if needed:
        raise RequestError(f"{where}: {name} needs its parameter {needed[0]!r}")
    try:
        rule: NamedRule = cls(**values)
    except ValueError as error:
        raise RequestError(f"{where}: {name}: {error}") from None
    return rule


def _checked(hint: Any, value: Any, where: str) -> Any:
    """A value of a parameter's type: a number, one of some words, or a list of numbers."""
    # the members of a union, or the one type
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    words = [word for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)]
    if isinstance(value, str) and value in words:
        return value
    if float in kinds and (number := _number(value)) is not None:
        return number
    numbers = any(typing.get_origin(kind) is tuple for kind in kinds)
    if numbers and isinstance(value, list) and value and all(_number(v) is not None for v in value):
        return tuple(map(float, value))
    if type(value) is int:
        value = f"an integer of {len(hex(value)) - 2} hexadecimal digits"  # only one too large for a float
    offer = [repr(word) for word in words] + ["a number"] * (float in kinds) + ["a list of numbers"] * numbers
    raise RequestError(f"{where} is {' or '.join(offer)}, not {value!r}")


def _number(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) else None  # a bool is no number here
    except OverflowError:
        return None
