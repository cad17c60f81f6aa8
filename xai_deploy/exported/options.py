"""What a caller says about a model file -> the arguments of xai-export."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..foundation.options import specs, unknown
from ..foundation.texts import read_text
from ..methods import create
from ..methods.across import without_layers
from ..methods.method import MethodSet

METHODS = "methods"
"""The option that xai-export does not have: the methods whose graphs the bundle must hold."""


def flag(name: str) -> str:
    """The option of xai-export: "input_shape" -> "--input-shape"."""
    return f"--{name.replace('_', '-')}"


_OF_FILES = ("arch", "composite", "config", "labels")  # relative to the current folder
_ELSEWHERE = ("randomise", "serve_repo", "sign", "web")
_REPEATED = ("composite", "input", "input_image")
_PASSED = (
    *(*_OF_FILES, "arch_options", "input_shape", "keep_batchnorm", "name", "output", "roles", "split"),
    *("explain_input", "input", "input_image"),
    *("all_graphs", "full_gradient", "guided", "input_gradient", "pixel_relevance", "trust_code", "trust_pickle"),
    *("preprocess", "resize", "interpolation", "antialias", "color", "scale", "mean", "std", "input_range", "shown"),
)
_BY_ROLE = {
    "input-gradient": (flag("input_gradient"),),
    "guided-gradient": (flag("guided"),),
    "full-gradient": (flag("full_gradient"),),
    "pixel-relevance": (flag("pixel_relevance"),),
}


def arguments_of(options: Mapping[str, object]) -> list[str]:
    """The arguments of xai-export.

    Args:
        options: The long options of xai-export, with _ in place of -. True is a switch; None and False leave an option out. A
            sequence is written with commas, and so is a mapping, as KEY=VALUE. `METHODS` are names, pairs of a name and its
            options, or "all" or "fast".

    Raises:
        OptionError: An option does not exist, or is not one that describes a network.
        UnknownMethodError: No such method.
    """
    if options.get("config"):
        _refuse_elsewhere(Path(str(options["config"])))
    arguments: list[str] = []
    for name in sorted(options):
        if name == METHODS:
            continue
        if name not in _PASSED:
            raise OptionError(unknown("option of an export", str(name), (*sorted(_PASSED), METHODS)))
        arguments += _written(name, options[name])
    methods: Any = options.get(METHODS) or ()
    return arguments + [argument for argument in _for_methods(methods, arguments) if argument not in arguments]


def depends_on_place(options: Mapping[str, object]) -> bool:
    """Whether the result depends on the current folder and on Python's path: files are named, or code may be imported."""
    return any(options.get(name) for name in (*_OF_FILES, "trust_code", "trust_pickle"))


def _refuse_elsewhere(config: Path) -> None:
    """Refuse a configuration that writes more than the bundle: it would do so only if the cache does not hold the bundle."""
    try:
        import tomllib  # late: only a configuration needs it

        keys = tomllib.loads(read_text(config))
    except (OSError, ValueError, RecursionError):  # xai-export says what is wrong
        return
    if refused := next((key for key in keys if key.replace("-", "_") in _ELSEWHERE), None):
        raise OptionError(
            f"{config}: {refused!r} writes more than the bundle; run xai-export for it, and give its bundle"
        )


def _written(name: str, value: object) -> list[str]:
    """One option as arguments. A value is written as --option=value, so that it may begin with a minus sign."""
    if value is None or (value is False and name != "antialias"):
        return []
    if value is False:
        return [f"--no-{name}"]
    if value is True:
        return [flag(name)]
    if isinstance(value, Mapping):
        value = [f"{key}={inner}" for key, inner in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if name in _REPEATED:
            return [f"{flag(name)}={inner}" for inner in value]
        value = ",".join(map(str, value))
    return [f"{flag(name)}={value}"]


def _for_methods(methods: Any, given: Sequence[str]) -> list[str]:
    """The options for the graphs that the methods need and that an export does not make by default.

    Args:
        methods: See `METHODS`.
        given: The arguments so far; a composite that they give as a file is known by the file's stem.
    """
    known = {Path(argument.partition("=")[2]).stem for argument in given if argument.startswith(flag("composite"))}
    flags: dict[str, None] = {}
    for name, options in specs("method", methods) if methods else ():
        if name in typing.get_args(MethodSet):
            flags[flag("all_graphs")] = None
            continue
        for role in create(name, without_layers(options)).roles:
            # "pixel-relevance-epsilon-plus" -> "pixel-relevance", "epsilon-plus"
            start, dash, composite = role.partition("relevance-")
            if composite and composite not in known:
                flags[f"{flag('composite')}={composite}"] = None
            flags |= dict.fromkeys(_BY_ROLE.get(f"{start}relevance" if dash else role, ()))
    return sorted(flags)
