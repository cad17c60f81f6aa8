"""The types of a request's fields. The command line gives the right ones; callers from Python may give anything."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Union

from xai_deploy.foundation.paths import described, path_of

from .errors import RequestError

_LISTS = {
    "input": "texts",
    "input_image": "texts",
    "roles": "names of graphs",
    "composite": "names and files",
    "fuse": "names of methods",
}
_NAMES = ("split", "name", "arch", "output", "map", "web_title", "explain_input", "decoder", "preprocess")
_SHAPE = "channels,height,width, for example 3,224,224 (of volumes channels,depth,height,width)"
_SERVER = "the kind of server and a folder (from Python a Path)"


def paths_given(request: Any) -> dict[str, Any]:
    """The fields that hold a path as text, with their paths, so that callers may give a str."""
    changed: dict[str, Any] = {
        field: Path(value) for field in _paths(request) if _is_path(value := getattr(request, field))
    }
    server = request.serve_repo
    if isinstance(server, tuple) and len(server) == 2 and _is_path(server[1]):
        changed["serve_repo"] = server[0], Path(server[1])
    return changed


def check_types(request: Any) -> None:
    """Check the type of every field.

    Raises:
        RequestError: One of them has another type than the class says, or is a path that no file can have.
    """
    for field, kinds in _kinds(request.__class__).items():
        value, flag = getattr(request, field), f"--{field.replace('_', '-')}"
        if value is None and None in kinds:
            continue
        if Path in kinds:
            _check_path("the source" if field == "source" else flag, value)
        elif field in _LISTS:
            if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
                raise RequestError(f"{flag} takes {_LISTS[field]}; got {_shown(value)}")
        elif field in _NAMES:
            _check_name(flag, value)
        elif (what := _wanted(field, kinds, value)) is not None:
            raise RequestError(f"{flag} takes {what}; got {_shown(value)}")
    if request.serve_repo is not None:
        _check_path("--serve-repo", request.serve_repo[1])


def _check_path(what: str, value: object) -> None:
    if what == "the source" and not isinstance(value, (str, bytes, os.PathLike)):
        how = "save the network first, as torch.onnx.export and torch.save(model.state_dict(), FILE) do"
        raise RequestError(f"{what} is a file's path, a str or a pathlib.Path; got {described(value)}; {how}")
    path_of(value, what, RequestError)


def _check_name(flag: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise RequestError(f"{flag} takes a name; got {_shown(value)}")
    if not value.isprintable():  # also refuses bytes that are no text
        raise RequestError(f"{flag} takes printable text; got {_shown(value)}")


def _wanted(field: str, kinds: tuple[Any, ...], value: Any) -> str | None:
    """What a field takes, if the value is nothing of it."""
    if field == "input_shape":
        fits = isinstance(value, list | tuple) and len(value) in (3, 4) and all(type(s) is int and s > 0 for s in value)
        return None if fits else _SHAPE
    if field == "serve_repo":
        fits = isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str)
        return None if fits and isinstance(value[1], Path) else _SERVER
    if bool in kinds:
        return None if type(value) is bool else "True or False"
    if field == "logit_scale":
        return None if type(value) in (int, float) else "a number"
    if Mapping in (typing.get_origin(kind) for kind in kinds):
        return None if isinstance(value, Mapping) else "names and values"
    return None  # `request.check` knows more of the others


def _shown(value: object) -> str:
    """A value as Python writes it, in one line of 100 characters at most."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def _is_path(value: object) -> bool:
    """Whether this is a path of text, and no `Path` yet."""
    if isinstance(value, Path):
        return False
    return isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str))


@cache
def _kinds(request: type) -> dict[str, tuple[Any, ...]]:
    """Field -> the types that it takes; None stands for itself."""
    hints = typing.get_type_hints(request)
    kinds = {}
    for name in (field.name for field in dataclasses.fields(request)):
        union = typing.get_origin(hints[name]) in (Union, types.UnionType)
        every = typing.get_args(hints[name]) if union else (hints[name],)
        kinds[name] = tuple(None if kind is types.NoneType else kind for kind in every)
    return kinds


def _paths(request: Any) -> list[str]:
    return [field for field, kinds in _kinds(request.__class__).items() if Path in kinds]
