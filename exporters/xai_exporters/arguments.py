"""The command line's parser, made from the fields of `Request`, and the functions that read the text of options."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from xai_deploy.format.bundle import Preprocess
from xai_deploy.foundation import exits, json_report
from xai_deploy.foundation.completion import add_completion
from xai_deploy.version import __version__

from .config import load_config
from .cut.scores.detectors.detector import decoders
from .deliver.repositories.served import servers
from .errors import RequestError
from .relevance.composite import composites
from .request import GROUPS, Option, Request
from .roles.fuse.fused_method import fused
from .roles.plan import plan_roles

_EPILOG = """examples:
  xai-export resnet50.pt --split layer4                               weights of a published network, cut at a module
  xai-export model.onnx --list-layers                                 every legal cut, and what it costs
  xai-export model.onnx --preprocess imagenet                         the cut is chosen: before the last pooling
  xai-export weights.pth --arch mynets:build --input-shape 3,320,320  with the code that builds the network
  xai-export model.onnx --preprocess imagenet --fuse reciprocam,grad-cam --web site/
  xai-export model.onnx --preprocess imagenet --fuse grad-cam --serve-repo triton repository/

written:
  NAME.xai/    the bundle, in the current folder or where -o says: manifest.json, one ONNX file per graph, labels.txt;
               whole or not at all, after it was run against the source. --list-layers writes nothing.

files from strangers:
  safetensors, state dicts (torch.save of model.state_dict()), ONNX, OpenVINO IR, TFLite, TensorFlow and PaddlePaddle
  run no code; pickled modules, TorchScript and .pt2 can do whatever you can, and are refused without --trust-code.
  --arch imports and runs the Python that it names.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of xai-export. An option that is not given is None, so that a TOML file's value holds."""
    parser = exits.OneLineParser(
        prog="xai-export",
        description="Cut a trained network at a layer and write the bundle from which xai-deploy explains it.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add(
        "source",
        type=Path,
        help="state dict, checkpoint, torch module, TorchScript, .pt2, safetensors, ONNX, OpenVINO IR (.xml), TFLite, "
        "TensorFlow (SavedModel folder, frozen .pb) or PaddlePaddle (.pdmodel)",
    )
    add("--list-layers", action="store_true", help="print every legal cut, its cost and side tensors; write nothing")
    add("--config", type=Path, metavar="FILE.toml", help="read options from a TOML file; the command line wins")
    names: dict[str, Iterable[str]] = {
        "roles": [role for role in plan_roles(Request(Path())).roles if role not in ("head", "tail")],
        "composites": composites(),
        "methods": fused,
        "servers": servers,
        "decoders": decoders,
    }
    lists = {kind: ", ".join(each) for kind, each in names.items()}
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    for name, hint in typing.get_type_hints(Request, include_extras=True).items():
        if typing.get_origin(hint) is Annotated:
            kind, option = typing.get_args(hint)
            # -o before --output-path
            flags = sorted((f"--{name.replace('_', '-')}", *option.also), key=lambda flag: flag.startswith("--"))
            groups[option.group].add_argument(*flags, help=option.help.format(**lists), **_settings(option, kind))
        elif name == "preprocess_fields":
            _add_preprocessing(groups["preprocessing, for the manifest"])
    json_report.add_json(parser, "the summary")
    add("--steps", action="store_true", help="name each step in a line on standard error, for programs that show it")
    add("-q", "--quiet", action="store_true", help="print nothing but errors")
    add("-v", "--verbose", action="count", default=0, help="log what is done; twice for more")
    add("--version", action="version", version=f"xai-deploy-exporters {__version__}")
    words = {"--roles": names["roles"], "--composite": names["composites"], "--fuse": names["methods"]}
    add_completion(parser, words)
    return parser


def _settings(option: Option, hint: Any) -> dict[str, Any]:
    """The arguments of `add_argument` for a field's option, by the field's type."""
    # the type itself, and the members of a union (or of a tuple)
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if kind is not type(None)]
    choices = next((typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is Literal), None)
    settings: dict[str, Any] = {} if option.metavar is None else {"metavar": option.metavar}
    if hint is bool:
        return {"action": "store_true", "default": None}
    if option.parse is not None:
        return settings | {"type": _PARSERS[option.parse]}
    if option.repeatable:
        return settings | {"action": "append"}
    if isinstance(option.metavar, tuple):
        return settings | {"nargs": len(option.metavar)}
    if choices is not None:
        return settings | {"choices": choices}
    return settings | {"type": next((kind for kind in (Path, int, float) if kind in kinds), str)}


def _add_preprocessing(group: argparse._ArgumentGroup) -> None:
    """An option for each field of the preprocessing that users state."""
    hints = typing.get_type_hints(Preprocess)
    add = group.add_argument
    add(
        "--resize",
        type=resize,
        metavar="PIXELS|HEIGHT,WIDTH|stretch|letterbox",
        help="shorter side, or both, before the centre crop; or the whole image: stretched, or with borders",
    )
    add("--interpolation", choices=typing.get_args(hints["interpolation"]))
    add(
        "--antialias",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="widen the filter when shrinking (as PIL)",
    )
    add(
        "--color",
        choices=typing.get_args(hints["color"]),
        help="channel order the network takes; CHANNELS: channels that are no colours (default for 2, 4 and more)",
    )
    add(
        "--input-range",
        dest="range",
        type=floats,
        metavar="LOW,HIGH",
        help="values of 16-bit and float images that become the pixels 0 and 255, unrounded; 0,255 leaves them as they are",
    )
    add(
        "--shown",
        type=integers,
        metavar="R,G,B",
        help="three channels, from 0, that pictures show (default: the first three, or of fewer the first)",
    )
    add("--scale", type=float, help="factor on the 8-bit value, before mean and std")
    add("--mean", type=floats, metavar="A,B,C", help="after scaling, in the order of the network's channels")
    add("--std", type=floats, metavar="A,B,C", help="likewise")


def request_of(options: argparse.Namespace) -> Request:
    """The request: the command line's options over the TOML file's.

    Raises:
        RequestError: The file is invalid, or `--fuse` names no method.
    """
    values: dict[str, Any] = load_config(options.config) if options.config else {}
    given = {f.name: getattr(options, f.name, None) for f in dataclasses.fields(Request)}
    values |= {key: value for key, value in given.items() if value is not None}
    for name in ("composite", "input", "input_image"):
        if getattr(options, name) is not None:
            values[name] = tuple(getattr(options, name))
    if options.serve_repo is not None:
        values["serve_repo"] = options.serve_repo[0], Path(options.serve_repo[1])
    if options.fuse is not None:
        values["fuse"] = tuple(part for given in options.fuse for part in words(given))
        if not values["fuse"]:
            raise RequestError(f"--fuse: no method is named; there are {', '.join(fused)}")
    if options.preprocess is not None:
        values["preprocess_fields"] = {}  # the command line's preset wins over the file's fields
    stated = {f.name: getattr(options, f.name, None) for f in dataclasses.fields(Preprocess)}
    fields = {key: value for key, value in stated.items() if value is not None}
    values["preprocess_fields"] = {**values.get("preprocess_fields", {}), **fields}
    return Request(**values)


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


def integers(text: str) -> tuple[int, ...]:
    """Parse "3,2,1" as a tuple.

    Raises:
        argparse.ArgumentTypeError: A part is no whole number.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers") from None


def options(text: str) -> dict[str, Any]:
    """Parse "KEY=VALUE,KEY=VALUE" as keyword arguments; a value is a Python literal, true or false; anything else is text.

    Raises:
        argparse.ArgumentTypeError: A part is no KEY=VALUE, or a key stands twice.
    """
    values: dict[str, Any] = {}
    # a comma separates options only if KEY= follows, so that values can hold commas
    for part in re.split(r",(?=\s*\w+\s*=)", text):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key.isidentifier() or key in values:
            raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE[,KEY=VALUE], each key once")
        try:
            values[key] = {"true": True, "false": False}.get(value.lower(), value)
            values[key] = ast.literal_eval(values[key])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass  # the value stays text, or the boolean that it is already
    return values


def words(text: str) -> tuple[str, ...]:
    """Parse "a, b" as a tuple; empty parts are left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def resize(text: str) -> int | tuple[int, ...] | str:
    """A number of pixels, a height and a width, "stretch" or "letterbox".

    Raises:
        argparse.ArgumentTypeError: It is none of these.
    """
    if text in ("stretch", "letterbox"):
        return text
    with contextlib.suppress(ValueError):
        sides = tuple(map(int, re.split("[x,]", text)))
        if len(sides) <= 2:
            return sides if len(sides) == 2 else sides[0]
    raise argparse.ArgumentTypeError(
        f"{text!r} is neither a number of pixels nor HEIGHT,WIDTH nor 'stretch' or 'letterbox'"
    )


_PARSERS: Mapping[str, Callable[[str], Any]] = {"shape": shape, "options": options, "words": words}
