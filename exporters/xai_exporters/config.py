"""Options of an export from a TOML file."""

from __future__ import annotations

import dataclasses
import os
import tomllib
import typing
from pathlib import Path
from typing import Any

from xai_deploy.foundation.paths import path_of
from xai_deploy.foundation.texts import read_text

from .errors import RequestError
from .request import Request

_OLD_NAMES = {"trust_pickle": "trust_code"}


def load_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file into keyword arguments of `Request`.

    Keys are the command line's long options (`input-shape`, `labels`, ...); a table `[preprocess]` holds the fields of the
    preprocessing. Paths are relative to the file.

    Raises:
        RequestError: The file can't be read, or holds a key or a value that is not an option's.
    """
    path = path_of(path, "the configuration", RequestError)
    try:
        document = tomllib.loads(read_text(path))
    except OSError as error:
        raise RequestError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or integers of thousands of digits
        raise RequestError(f"{path}: not valid TOML ({error})") from None
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(Request)
    known = {f.name for f in dataclasses.fields(Request)} - {"preprocess_fields"}
    # the fields of type Path, or Path | None
    paths = {name for name in known if Path in (hints[name], *typing.get_args(hints[name]))}
    lists = {
        name
        for name in known
        if any(typing.get_origin(kind) is tuple for kind in (hints[name], *typing.get_args(hints[name])))
    }
    for key, value in document.items():
        option = key.replace("-", "_")
        option = _OLD_NAMES.get(option, option)
        if option == "preprocess" and isinstance(value, dict):
            values["preprocess"] = value.pop("preset", None)
            values["preprocess_fields"] = value
            continue
        if option == "arch_options" and isinstance(value, dict):
            values["arch_options"] = value
            continue
        if option == "arch_options":
            raise RequestError(f"{path}: {key} is a table of names and values; got {value!r}")
        if option not in known:
            raise RequestError(f"{path}: unknown key {key!r}; keys are xai-export's long options")
        if option in paths:
            if not isinstance(value, str):
                raise RequestError(f"{path}: {key} is a file's path")
            values[option] = path.parent / value
        # a list for a tuple, true or false for a switch, and neither for anything else
        elif isinstance(value, list) != (option in lists) or isinstance(value, bool) != (hints[option] is bool):
            raise RequestError(f"{path}: {key} = {value!r} is not a value for this option")
        else:
            values[option] = tuple(value) if isinstance(value, list) else value
    if len(values.get("serve_repo", ())) == 2:
        kind, folder = values["serve_repo"]
        values["serve_repo"] = kind, path.parent / folder if isinstance(folder, str) else folder
    if "composite" in values:
        values["composite"] = tuple(
            str(path.parent / given) if isinstance(given, str) and given.endswith(".toml") else given
            for given in values["composite"]
        )
    return values
