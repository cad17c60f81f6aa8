"""The options for a model file that is given in place of a bundle. They are those of xai-export, which gets them as they are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..exported import open_bundle
from ..exported.options import METHODS
from ..foundation.mistaken import graph_file
from .arguments import MethodRequest
from .console import Parser

RECORDING = ".npz"
"""How the name of a recording of xai-check ends."""

_PREFIX = "export_"  # of the names in the namespace

_OPTIONS = {
    "split": ("LAYER", "the layer to explain: a module path, node or tensor (default: the last activation)"),
    "preprocess": ("PRESET", "how pixels become the input: imagenet, unit, tf, caffe, none or assume"),
    "arch": ("MODULE:CALLABLE", "builds the network of a state dict; or FILE.py:CALLABLE, or a torchvision name"),
    "arch_options": ("KEY=VALUE,...", "its keyword arguments"),
    "input_shape": ("C,H,W", "one image, if the file does not say it"),
    "output": ("NAME", "the network's output to explain, if it has several"),
    "labels": ("FILE", "text file with one label a line"),
    "resize": ("PIXELS|H,W|stretch", "shorter side, or both, before the centre crop; or stretch"),
    "interpolation": ("NAME", "how images are resized: bilinear, bicubic, nearest, ..."),
    "color": ("RGB|BGR|GRAY", "channel order that the network takes"),
    "scale": ("F", "factor on the 8-bit value, before mean and std"),
    "mean": ("A,B,C", "after scaling, in the order of the network's channels"),
    "std": ("A,B,C", "likewise"),
    "config": ("FILE.toml", "these and all other options of xai-export"),
}


def add_export(parser: Parser) -> None:
    """Add the options for a model file."""
    title = "for a model file (.onnx, .pt, .safetensors, ...) in place of BUNDLE, as in xai-export"
    add = parser.add_argument_group(title).add_argument
    for name, (metavar, text) in _OPTIONS.items():
        add(f"--{name.replace('_', '-')}", dest=_PREFIX + name, metavar=metavar, help=text)
    add(
        "--antialias",
        dest=f"{_PREFIX}antialias",
        action=argparse.BooleanOptionalAction,
        help="widen the filter when shrinking",
    )
    trust = "read a pickled module, TorchScript or .pt2, which run code from the file"
    add("--trust-code", "--trust-pickle", dest=f"{_PREFIX}trust_code", action="store_true", default=None, help=trust)


def is_model(path: str) -> bool:
    """Whether this is a model file or a SavedModel's folder, but not a recording of xai-check."""
    return graph_file(path).is_file() and Path(path).suffix != RECORDING


def export_of(
    arguments: argparse.Namespace, path: str, methods: Sequence[MethodRequest] = (), paths: Sequence[str] = ()
) -> dict[str, object]:
    """The options for one network, as `exported.open_bundle` takes them.

    Args:
        arguments: What the user gave.
        path: The network: a bundle or a model file.
        methods: The methods whose graphs a bundle must hold.
        paths: All networks of this call. If one is a model file, the options are for it, and none are for a bundle.
    """
    options: dict[str, object] = {METHODS: [(method.name, method.options) for method in methods]}
    if not is_model(path) and any(map(is_model, paths)):
        return options
    given = {name: getattr(arguments, _PREFIX + name) for name in (*_OPTIONS, "antialias", "trust_code")}
    return options | {name: value for name, value in given.items() if value is not None}


def bundle_paths(
    paths: Sequence[str], arguments: argparse.Namespace, methods: Sequence[MethodRequest] = ()
) -> list[str]:
    """Bundles as they are, and the bundles of model files; each is checked."""
    exports = [export_of(arguments, path, methods, paths) for path in paths]
    shown, key = not arguments.quiet, arguments.trusted_key
    opened = [open_bundle(path, export, shown, key) for path, export in zip(paths, exports, strict=True)]
    return [str(bundle.path) if is_model(path) else path for path, bundle in zip(paths, opened, strict=True)]
