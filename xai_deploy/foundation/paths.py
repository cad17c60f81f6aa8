"""Paths as callers from Python give them: str, or an `os.PathLike` that gives one, such as `pathlib.Path`."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ..errors import InputError, XaiError


def path_of(given: object, what: str, error: type[XaiError] = InputError) -> Path:
    """The path that a caller gave.

    Args:
        given: What was given.
        what: What messages call it: "the bundle".
        error: What is raised.

    Raises:
        XaiError: It is no path, or no file can have this name: it holds a zero byte, is too long, or is not text that the
            system can write.
    """
    if isinstance(given, bytes):
        raise error(f"{what} is a path, a str or a pathlib.Path; got bytes (os.fsdecode makes text of them)")
    if not isinstance(given, (str, os.PathLike)) or not isinstance(text := os.fspath(given), str):
        raise error(f"{what} is a path, a str or a pathlib.Path; got {described(given)}")
    try:
        os.stat(text)
    except ValueError:  # also UnicodeEncodeError
        raise error(f"{what}: {short(text)} is no file's name; name the file again") from None
    except OSError as problem:
        if problem.errno == errno.ENAMETOOLONG:
            raise error(f"{what}: {short(text)} is too long for a file's name; name the file again") from None
    return Path(text)


def paths_of(given: object, what: str, error: type[XaiError] = InputError) -> list[Path]:
    """The paths of a sequence, or one path alone, each as `path_of` takes it."""
    many = isinstance(given, Sequence) and not isinstance(given, (str, bytes))
    return [path_of(one, what, error) for one in (cast(Sequence[object], given) if many else [given])]


def described(given: object) -> str:
    """Something of a wrong type, in a few words: numbers and texts themselves, of anything else the type."""
    if given is None or isinstance(given, (bool, int, float, str)):
        return short(given)
    name = type(given).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def short(given: object) -> str:
    """A value in ASCII, 60 characters of it at most."""
    text = ascii(given)
    return text if len(text) <= 60 else f"{text[:57]}..."
