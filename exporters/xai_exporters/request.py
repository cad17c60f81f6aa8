"""What the user asks of an export: one dataclass, from the command line, from Python, or from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

from .errors import RequestError

_LISTS = ("input_shape", "roles", "composite", "fuse", "serve_repo")
_OLD_NAMES = {"trust_pickle": "trust_code"}
_PATHS = ("source", "labels", "output_path", "web", "ort_web")


@dataclass(frozen=True)
class Request:
    """An export.

    Attributes:
        source: The trained network's file.
        split: Module path, node name or tensor name to cut at; "auto": the last 4-D activation before pooling.
        output_path: The bundle folder to write; None: the source's name + ".xai" in the current folder.
        overwrite: Replace an existing bundle.
        name: The network's name in the manifest; None: the source's file name.
        arch: "MODULE:CALLABLE", "FILE.py:CALLABLE" or a torchvision name; builds the network for a state dict.
        arch_options: Keyword arguments of that callable: what a state dict does not hold.
        trust_code: Allow sources that run code from the file when they are read: pickled modules, TorchScript, `.pt2`.
        trust_pickle: Its old name; only taken, never kept.
        input_shape: (C,H,W) of one image; needed where the source does not say.
        output: The source's output to explain, where there are several.
        preprocess: Preset ("imagenet", "tf", "none") or None for the source's own default.
        preprocess_fields: Single fields of `xai_deploy.format.manifest.Preprocess` that replace the preset's.
        labels: Text file with one label a line.
        roles: Graphs to write; empty: all that apply and need not be asked for.
        input_gradient: Write the graph of the gradient at the image, too.
        guided: Write the graph of guided backpropagation, too.
        composite: Names or .toml files of further composites; each has relevance graphs of its own.
        pixel_relevance: Write graphs whose relevance goes down to the image, too.
        keep_batchnorm: Leave BatchNormalizations in the relevance graphs, and ask torch's exporter to leave them.
        fuse: Methods to write as self-contained graphs, "METHOD" or "METHOD:OPTION=VALUE".
        fixed_target: Fused graphs have no input `target`: always the predicted class.
        map_size: "input" resizes the maps of fused graphs to the network's input; None leaves them as the method gives them.
        uint8: The maps of fused graphs are 0-255.
        embed_preprocess: Fused graphs take uint8 [N,height,width,3] of any size.
        format: "openvino" writes fused graphs as OpenVINO IR, too.
        serve_repo: Kind of server, and the folder of its model repository to write.
        web: Folder of the page to write.
        ort_web: onnxruntime-web's package for the page, as a file or a folder; None: from the npm registry, or the cache.
        randomise: Write this many further bundles, whose weights are random from the logits down; see `randomise`.
        randomise_seed: Of their random numbers.
    """

    source: Path
    split: str = "auto"
    output_path: Path | None = None
    overwrite: bool = False
    name: str | None = None
    arch: str | None = None
    arch_options: Mapping[str, Any] = field(default_factory=dict)
    trust_code: bool = False
    input_shape: tuple[int, int, int] | None = None
    output: str | None = None
    preprocess: str | None = None
    preprocess_fields: Mapping[str, Any] = field(default_factory=dict)
    labels: Path | None = None
    roles: tuple[str, ...] = ()
    input_gradient: bool = False
    guided: bool = False
    composite: tuple[str, ...] = ()
    pixel_relevance: bool = False
    keep_batchnorm: bool = False
    fuse: tuple[str, ...] = ()
    fixed_target: bool = False
    map_size: str | None = None
    uint8: bool = False
    embed_preprocess: bool = False
    format: str = "onnx"
    serve_repo: tuple[str, Path] | None = None
    web: Path | None = None
    ort_web: Path | None = None
    randomise: int | None = None
    randomise_seed: int = 0
    trust_pickle: InitVar[bool] = False

    def __post_init__(self, trust_pickle: bool) -> None:
        if trust_pickle:
            object.__setattr__(self, "trust_code", True)


def load_config(path: Path) -> dict[str, Any]:
    """Read a TOML file into keyword arguments of `Request`.

    Keys are the command line's long options (`input-shape`, `labels`, ...); a table `[preprocess]` holds the fields of the
    preprocessing. Paths are relative to the file.

    Raises:
        RequestError: The file can't be read, or holds a key or a value that is not an option's.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path}: can't be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not valid TOML ({error})") from None
    values: dict[str, Any] = {}
    known = {f.name for f in dataclasses.fields(Request)} - {"preprocess_fields"}
    hints = typing.get_type_hints(Request)
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
        if option in _PATHS:
            if not isinstance(value, str):
                raise RequestError(f"{path}: {key} is a file's path")
            values[option] = path.parent / value
        elif isinstance(value, list) != (option in _LISTS) or isinstance(value, bool) != (hints[option] is bool):
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


def check(request: Request) -> None:
    """What the types alone do not say.

    Raises:
        RequestError: An option's value is out of range.
    """
    shape = request.input_shape
    if shape is not None and (len(shape) != 3 or not all(type(s) is int and s > 0 for s in shape)):
        raise RequestError(f"--input-shape takes channels,height,width, for example 3,224,224; got {shape}")
    for option in ("split", "name", "arch", "output"):
        value = getattr(request, option)
        if value is not None and (not isinstance(value, str) or not value):
            raise RequestError(f"--{option} takes a name; got {value!r}")
        if isinstance(value, str) and not value.isprintable():  # bytes that are no text among them
            raise RequestError(f"--{option} takes printable text; got {value!r}")
    if not isinstance(request.arch_options, Mapping) or not all(map(_is_name, request.arch_options)):
        raise RequestError(
            f"--arch-options takes names and values, for example aux_logits=false; got {request.arch_options!r}"
        )
    if not all(isinstance(role, str) for role in request.roles):
        raise RequestError(f"--roles takes names of graphs; got {request.roles!r}")
    if not all(isinstance(given, str) for given in request.composite):
        raise RequestError(f"--composite takes names and files; got {request.composite!r}")
    if isinstance(request.fuse, str) or not all(isinstance(given, str) for given in request.fuse):
        raise RequestError(f"--fuse takes names of methods; got {request.fuse!r}")
    if request.map_size not in (None, "activation", "input"):
        raise RequestError(f"--map-size is activation or input, not {request.map_size!r}")
    if request.format not in ("onnx", "openvino"):
        raise RequestError(f"--format is onnx or openvino, not {request.format!r}")
    for option in ("fixed_target", "map_size", "uint8", "embed_preprocess", "format", "serve_repo", "web"):
        if getattr(request, option) not in (None, False, "onnx") and not request.fuse:
            raise RequestError(f"--{option.replace('_', '-')} is for --fuse, which is not given")
    if request.serve_repo is not None:
        kind, folder = request.serve_repo if len(request.serve_repo) == 2 else (None, None)
        if not isinstance(kind, str) or not isinstance(folder, Path):
            raise RequestError(
                f"--serve-repo takes the kind of server and a folder (from Python a Path); got {request.serve_repo!r}"
            )
    if request.ort_web is not None and request.web is None:
        raise RequestError("--ort-web is for --web, which is not given")
    if request.randomise is not None and (type(request.randomise) is not int or not 1 <= request.randomise <= 1000):
        raise RequestError(f"--randomise takes a number of bundles, 1 to 1000; got {request.randomise!r}")
    if type(request.randomise_seed) is not int or request.randomise_seed < 0:
        raise RequestError(f"--randomise-seed takes a number, 0 or more; got {request.randomise_seed!r}")
    if request.randomise is None and request.randomise_seed:
        raise RequestError("--randomise-seed is for --randomise, which is not given")


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier()
