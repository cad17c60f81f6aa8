"""Options of methods and metrics: the fields of a frozen dataclass, from keyword arguments or from a command line's text."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ..errors import OptionError
from . import schema

T = TypeVar("T")


def build(cls: type[T], name: str, options: Mapping[str, object]) -> T:
    """The dataclass `cls` with these options.

    Args:
        cls: A frozen dataclass.
        name: What messages call it.
        options: Field name -> value; strings are read as the field's type, so a command line can hand them on.

    Raises:
        OptionError: No such option, or a value it does not take.
    """
    hints = schema.type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            offer = f"it has {', '.join(known)}" if known else "it has none"
            raise OptionError(f"{name}: no option {option!r}; {offer}")
    try:
        values = {key: _from_text(hints[key], value) for key, value in options.items()}
        return schema.load(cls, values, name)
    except schema.SchemaError as error:
        raise OptionError(str(error)) from None


def options_of(instance: object) -> dict[str, Any]:
    """The options of a method or metric, by name."""
    fields = dataclasses.fields(instance)  # type: ignore[arg-type]
    return {field.name: getattr(instance, field.name) for field in fields}


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not among the known ones."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"no {kind} {name!r}{hint}; there are {', '.join(names)}"


def read_spec(text: str) -> tuple[str, dict[str, str]]:
    """ "METHOD:NAME=VALUE:NAME=VALUE", as command lines have it, as the method's name and its options.

    Raises:
        OptionError: An option is not written as NAME=VALUE.
    """
    name, *pairs = text.split(":")
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise OptionError(f"an option is written METHOD:NAME=VALUE, not {pair!r}")
        options[key] = value
    return name, options


def _from_text(hint: Any, value: object) -> object:
    """Read a string as the option's type: numbers, booleans, none."""
    if not isinstance(value, str):
        return value
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if types.NoneType in kinds and value.lower() == "none":
        return None
    if bool in kinds and value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(value)
            except ValueError:
                continue
    return value
