"""JSON <-> frozen dataclasses, strictly: a missing or unknown key or a wrong type is an error that names its place."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

LATER = types.MappingProxyType({"later": True})
"""Metadata of a field that was added to a format later: `dump` leaves it out while it has its default value, so that what does not
use it keeps its bytes."""

type_hints: Callable[[type], dict[str, Any]] = functools.cache(typing.get_type_hints)
"""The types of a dataclass's fields, kept because resolving them again would cost each request a fifth of a millisecond."""


class SchemaError(ValueError):
    """The data is not of the declared shape; the message names the place."""


def load(cls: type[T], data: object, where: str) -> T:
    """Build the dataclass `cls` from decoded JSON.

    Args:
        cls: A dataclass of str, int, float, bool, Literal, tuple[X, ...], dict[str, X], X | Y and dataclasses.
        data: The result of `json.loads`.
        where: The place of `data` in the document, for messages.

    Raises:
        SchemaError: A key is missing or unknown, or a value has the wrong type.
    """
    if not isinstance(data, dict):
        raise SchemaError(f"{where}: expected an object, got {_kind(data)}")
    hints = type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - set(fields)):
        raise SchemaError(f"{where}: unknown key {unknown[0]!r}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SchemaError(f"{where}: the key {name!r} is missing")
    return cls(**values)


def dump(value: Any) -> Any:
    """The JSON form of a dataclass, the inverse of `load`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: dump(getattr(value, f.name)) for f in dataclasses.fields(value) if not _is_left_out(f, value)}
    if isinstance(value, (tuple, list)):
        return [dump(v) for v in value]
    if isinstance(value, dict):
        return {k: dump(v) for k, v in value.items()}
    return value


def _is_left_out(field: dataclasses.Field[Any], value: Any) -> bool:
    if not field.metadata.get("later"):
        return False
    factory = field.default_factory
    return bool(getattr(value, field.name) == (field.default if factory is dataclasses.MISSING else factory()))


def _value(hint: Any, data: object, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # the first type that fits; if none does, the error of the first type
        problems = []
        for option in arguments:
            try:
                return _value(option, data, where)
            except SchemaError as error:
                problems.append(str(error))
        raise SchemaError(problems[0])
    if origin is typing.Literal:
        if not any(type(data) is type(a) and data == a for a in arguments):  # True == 1 in Python
            raise SchemaError(f"{where}: expected one of {', '.join(map(repr, arguments))}, got {data!r}")
        return data
    if origin is tuple:
        if not isinstance(data, list):
            raise SchemaError(f"{where}: expected a list, got {_kind(data)}")
        if arguments[-1] is not Ellipsis and len(data) != len(arguments):
            raise SchemaError(f"{where}: expected {len(arguments)} items, got {len(data)}")
        kinds = [arguments[0]] * len(data) if arguments[-1] is Ellipsis else arguments
        return tuple(_value(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, data, strict=True)))
    if origin is dict:
        if not isinstance(data, dict):
            raise SchemaError(f"{where}: expected an object, got {_kind(data)}")
        return {k: _value(arguments[1], v, f"{where}[{k!r}]") for k, v in data.items()}
    if dataclasses.is_dataclass(hint):
        return load(typing.cast(Any, hint), data, where)
    if hint is types.NoneType:
        if data is not None:
            raise SchemaError(f"{where}: expected null, got {_kind(data)}")
        return None
    if hint is float and type(data) is int:  # JSON writes 1 for 1.0
        try:
            data = float(data)
        except OverflowError:
            raise SchemaError(f"{where}: expected a finite number") from None
    if type(data) is not hint:  # bool is an int in Python, not in a manifest
        raise SchemaError(f"{where}: expected {hint.__name__}, got {_kind(data)}")
    if hint is float and not math.isfinite(typing.cast(float, data)):
        raise SchemaError(f"{where}: expected a finite number")
    return data


def _kind(data: object) -> str:
    return "nothing" if data is None else type(data).__name__
