"""Options of methods and metrics: the fields of a frozen dataclass, from keyword arguments or from a command line's text."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from ..errors import OptionError
from . import schema

T = TypeVar("T")

Named: TypeAlias = tuple[str, Mapping[str, object]]
"""A method or metric: its name and its options."""


def build(cls: type[T], name: str, options: Mapping[str, object]) -> T:
    """The dataclass `cls` with these options.

    Args:
        cls: A frozen dataclass.
        name: Its name in messages.
        options: Field name -> value; strings are read as the field's type, so a command line can hand them on.

    Raises:
        OptionError: An option does not exist, or does not take the value.
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


def specs(kind: str, given: Sequence[str | Named]) -> list[Named]:
    """Turn names, and pairs of a name and its options, into pairs. A single name counts as a list of one.

    Args:
        kind: "method" or "metric", for messages.
        given: The methods or metrics that the caller asks for.

    Raises:
        OptionError: The list is empty, or an entry is neither a name nor a pair of a name and options.
    """
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Sequence) or len(given) == 0:
        raise OptionError(f"{kind}s are a list of names, or of pairs of a name and options, not {given!r}")
    pairs: list[Named] = []
    for spec in given:
        match spec:
            case str():
                pairs.append((spec, {}))
            case (str() as name, Mapping() as options):
                pairs.append((name, options))
            case _:
                raise OptionError(f"a {kind} is a name, or a pair of a name and options, not {spec!r}")
    return pairs


def title_of(name: str, options: Mapping[str, object]) -> str:
    """A name with its options, fit for a file name and distinct for distinct options: "reciprocam+score=softmax".

    Options are sorted by name, and values are written as on a command line, with "-" for ":". A value that is long or holds what a
    file name may not is shortened to its end and a part of its digest.
    """
    texts = {key: value if isinstance(value, str) else str(value).lower() for key, value in options.items()}
    return "+".join([name, *(f"{key}={_in_a_name(texts[key])}" for key in sorted(texts))])


def _in_a_name(text: str) -> str:
    plain = text.replace(":", "-")
    safe = re.sub(r"[^\w.,=+ -]", "-", plain)[-40:]
    if safe == plain:
        return safe
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{safe}-{digest[:8]}"


def _folded(name: str) -> str:
    """A name as other libraries spell it, made equal: GradCAMPlusPlus, GradCAMpp and grad_cam++ are gradcam++."""
    return re.sub("(?<=cam)(plusplus|pp)$", "++", re.sub(r"[-_ ]", "", name.casefold()))


def quoted(value: object, most: int = 100) -> str:
    """What a stranger wrote, for a message: on one line, in quotes if it is a text, and no longer than `most` characters."""
    return shortened(repr(value), most)


def shortened(text: str, most: int = 100) -> str:
    """A text of at most `most` characters: class names may have thousands."""
    return text if len(text) <= most else text[: most - 3] + "..."


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message about a name that is not among the known ones."""
    import difflib  # late: only mistakes need it

    names = list(known)
    spellings = {_folded(one): one for one in names}
    close = difflib.get_close_matches(_folded(name), spellings, 1)
    hint = f" (did you mean {spellings[close[0]]!r}?)" if close else ""
    return f"no {kind} {name!r}{hint}; there are {', '.join(names)}"


def read_spec(text: str) -> tuple[str, dict[str, str]]:
    """Read "METHOD:NAME=VALUE:NAME=VALUE" from a command line into the method's name and its options.

    A part without "=" belongs to the value before it, so that a value may hold colons: "lime:segments=grid:14:samples=500".

    Raises:
        OptionError: An option is not written as NAME=VALUE.
    """
    name, *pairs = text.split(":")
    options: dict[str, str] = {}
    last = ""
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if last and not equals:
            options[last] += f":{pair}"
            continue
        if not (key and equals):
            raise OptionError(f"an option is written METHOD:NAME=VALUE, not {pair!r}")
        options[key], last = value, key
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
    for kind in (int, float):  # int first, so that "2" stays an int if the option takes both
        if kind in kinds:
            try:
                return kind(value)
            except ValueError:
                continue
    return value
