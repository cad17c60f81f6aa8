"""The parameters of a request, in every protocol: which there are, and how they are read."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from .asked import Shown
from .refusals import BAD_REQUEST, Refusal

PLAIN = ("timeout_ms",)
"""Those of a prediction."""

EXPLAINING = (*PLAIN, "method", "options", "target", *(one.name for one in fields(Shown)))
"""Those of an explanation."""


def known(parameters: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """Parameters, all of which exist.

    Raises:
        Refusal: One does not.
    """
    for name in parameters:
        if name not in names:
            raise Refusal(BAD_REQUEST, f"no parameter {name[:60]!r}; there are {', '.join(names)}")
    return parameters


def options_in(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The method's options.

    Raises:
        Refusal: They are no object.
    """
    options = parameters.get("options", {})
    if not isinstance(options, Mapping):
        raise Refusal(BAD_REQUEST, 'options is an object, as in {"steps": 20}')
    return options


def shown_by(parameters: Mapping[str, Any]) -> Shown:
    """How explanations are sent.

    Raises:
        Refusal: A value does not exist.
    """
    hints = typing.get_type_hints(Shown)
    given = {}
    for name, hint in hints.items():
        if name in parameters:
            choices = typing.get_args(hint)
            if parameters[name] not in choices:
                raise Refusal(
                    BAD_REQUEST, f"{name} is {', '.join(map(repr, choices))}, not {str(parameters[name])[:40]!r}"
                )
            given[name] = parameters[name]
    shown = Shown(**given)
    if shown.form == "vertex" and shown.encoding in ("png", "none"):
        raise Refusal(BAD_REQUEST, "form 'vertex' holds numbers; take encoding 'list' or 'npy'")
    return shown
