"""Values of the command line's options, from their text."""

from __future__ import annotations

import argparse
import ast
import re
from typing import Any


def shape(text: str) -> tuple[int, ...]:
    """Parse "3,224,224" or "3x224x224" as a tuple. Its length is checked with the request.

    Raises:
        argparse.ArgumentTypeError: A part is no number.
    """
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not C,H,W") from None


def floats(text: str) -> tuple[float, ...]:
    """Parse "0.5,0.5,0.5" as a tuple.

    Raises:
        argparse.ArgumentTypeError: A part is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers") from None


def options(text: str) -> dict[str, Any]:
    """Parse "KEY=VALUE,KEY=VALUE" as keyword arguments; a value is a Python literal, true or false, or else text.

    Raises:
        argparse.ArgumentTypeError: A part is no KEY=VALUE, or a key stands twice.
    """
    found: dict[str, Any] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", text):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key.isidentifier() or key in found:
            raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE[,KEY=VALUE], each key once")
        try:
            found[key] = {"true": True, "false": False}.get(value.lower(), value)
            found[key] = ast.literal_eval(found[key])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass  # text, or a boolean already
    return found


def words(text: str) -> tuple[str, ...]:
    """Parse "a, b" as a tuple; empty parts are left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def resize(text: str) -> int | str:
    """A number of pixels, or "stretch".

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    if text == "stretch":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of pixels nor 'stretch'") from None
