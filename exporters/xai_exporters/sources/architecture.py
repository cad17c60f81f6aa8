"""Weights without a network: find or build the architecture they belong to."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ArchitectureError, SourceError
from ..request import Request
from .archive import FACTOR, SLACK
from .base import Network, SourceFile
from .torch_export import export_module, first_line, import_torch

_NESTED = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.")
_OLD_DENSENET = re.compile(
    r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)"
)  # "norm.1.weight", as torchvision's files have it


def network_from_weights(content: Mapping[str, Any], file: SourceFile, request: Request) -> Network:
    """Build the architecture, load the weights into it, export it.

    Raises:
        ArchitectureError: No weights in the file, no architecture known, or one that does not fit.
    """
    weights = find_weights(content, file.path)
    _check_plain(weights, file.path)
    if request.arch is not None:
        build, name = _builder(request.arch)
    else:
        name = _torchvision_name(file.path.stem)
        build = _torchvision_builder(name)
    module = _load(build, weights, name, file.path)
    return export_module(module, request, f"torch state dict, {name}")


def find_weights(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The state dict in a file's content: itself, or under a checkpoint's usual keys; DataParallel's prefix is taken off.

    Raises:
        ArchitectureError: There is none.
    """
    torch = import_torch()

    def is_weights(value: Any) -> bool:
        return isinstance(value, Mapping) and bool(value) and all(isinstance(v, torch.Tensor) for v in value.values())

    candidates = [content, *(content[key] for key in _NESTED if key in content)]
    found = next((c for c in candidates if is_weights(c)), None)
    if found is None:
        keys = ", ".join(map(repr, list(content)[:8])) or "nothing"
        raise ArchitectureError(f"{path}: no state dict in it (it holds {keys}); looked under {', '.join(_NESTED)}")
    weights = dict(found)
    for prefix in _PREFIXES * 2:  # compiled inside DataParallel, or the other way round
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return {"".join(m.groups()) if (m := _OLD_DENSENET.fullmatch(key)) else key: v for key, v in weights.items()}


def _check_plain(weights: Mapping[str, Any], path: Path) -> None:
    """Refuse tensors that are more than the file can hold, or that are not kept as plain numbers.

    Raises:
        SourceError: One of them.
    """
    torch = import_torch()
    for name, value in weights.items():
        if value.layout is not torch.strided or value.is_quantized:
            raise SourceError(
                f"{path}: {name} is stored {'quantised' if value.is_quantized else 'sparse'}; store it dense"
            )
        if value.device.type != "cpu":
            raise SourceError(
                f"{path}: {name} is on the device {value.device.type}, so the file does not hold its values"
            )
        if value.is_complex():
            raise SourceError(
                f"{path}: {name} is of {str(value.dtype).removeprefix('torch.')}; weights are real numbers"
            )
    size = path.stat().st_size
    taken = sum(value.numel() * value.element_size() for value in weights.values())
    if taken > FACTOR * size + SLACK:  # strides of 0 repeat one number
        raise SourceError(f"{path}: its weights would take {taken} bytes, and the file has {size}; refused")


def _torchvision() -> Any:
    try:
        import torchvision
    except ImportError:
        raise ArchitectureError(
            "the architecture of these weights is not in the file; say it with --arch MODULE:CALLABLE "
            "(or install torchvision, if it is one of its networks)"
        ) from None
    return torchvision.models


def _torchvision_name(stem: str) -> str:
    """The torchvision network that a file's name holds ("resnet50-0676ba61" -> resnet50), the longest where several do."""
    models = _torchvision()
    names = models.list_models(module=models)
    found = [n for n in names if re.search(rf"(?<![a-z0-9]){re.escape(n)}(?![a-z0-9])", stem.lower().replace("-", "_"))]
    found = found or [n for n in names if re.search(rf"(?<![a-z0-9]){re.escape(n)}(?![a-z0-9])", stem.lower())]
    if not found:
        raise ArchitectureError(
            f"the file's name ({stem!r}) holds no torchvision network's; say the architecture with --arch MODULE:CALLABLE, "
            "or --arch NAME for one of torchvision"
        )
    return str(max(found, key=len))


def _torchvision_builder(name: str) -> Callable[..., Any]:
    models = _torchvision()
    if name not in models.list_models(module=models):
        import difflib

        near = ", ".join(difflib.get_close_matches(name, models.list_models(module=models), 3))
        raise ArchitectureError(f"torchvision has no network {name!r}{f'; the nearest are {near}' if near else ''}")
    build = models.get_model_builder(name)
    extra = (
        {"init_weights": False} if "init_weights" in inspect.signature(build).parameters or name in _SLOW_INIT else {}
    )

    def call(**options: Any) -> Any:
        return build(weights=None, **extra, **options)

    return call


_SLOW_INIT = ("googlenet", "inception_v3")  # warn, and draw their weights one by one, unless told not to


def _builder(arch: str) -> tuple[Callable[..., Any], str]:
    """--arch as a callable: "MODULE:CALLABLE", "FILE.py:CALLABLE", or a torchvision name."""
    module_name, colon, attribute = arch.rpartition(":")
    if not colon:
        return _torchvision_builder(arch), arch
    try:
        if module_name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module_name).stem, module_name)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(spec.name, module)
            spec.loader.exec_module(module)
        else:
            if os.getcwd() not in sys.path:
                sys.path.insert(0, os.getcwd())
            module = importlib.import_module(module_name)
        build = getattr(module, attribute)
    except Exception as error:  # the user's own module
        raise ArchitectureError(f"--arch {arch}: {first_line(error)}") from error
    if not callable(build):
        raise ArchitectureError(f"--arch {arch}: {attribute} is not callable")
    return build, arch


def _load(build: Callable[..., Any], weights: Mapping[str, Any], name: str, path: Path) -> Any:
    """Build the network, with the weights' number of classes, and load them strictly."""
    module = _call(build, name, {})
    options: dict[str, Any] = {}
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    if any(".aux" in f".{key}" or "AuxLogits" in key for key in set(wanted) - set(weights)):
        options["aux_logits"] = False
    differing = [k for k, shape in wanted.items() if k in weights and tuple(weights[k].shape) != shape]
    counts = {
        int(weights[k].shape[0]) for k in differing if tuple(weights[k].shape[1:]) == wanted[k][1:] and weights[k].ndim
    }
    if differing and len(counts) == 1:
        options["num_classes"] = counts.pop()
    if options:
        module = _call(build, name, options)
        wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    counters = {
        key for key in wanted if key.endswith("num_batches_tracked")
    }  # absent from files older than torch 0.4.1
    missing, unexpected = sorted(set(wanted) - set(weights) - counters), sorted(set(weights) - set(wanted))
    differing = [k for k, shape in wanted.items() if k in weights and tuple(weights[k].shape) != shape]
    floats = {key for key, value in module.state_dict().items() if value.is_floating_point()}
    integers = [k for k, v in weights.items() if k in floats and not v.is_floating_point()]
    problems = [f"it lacks {_some(missing)}"] if missing else []
    problems += [f"it has {_some(unexpected)} beyond it"] if unexpected else []
    problems += [f"{k} is of {str(weights[k].dtype).removeprefix('torch.')}, not floats" for k in integers[:1]]
    problems += [f"{k} is {list(weights[k].shape)} instead of {list(wanted[k])}" for k in differing[:1]]
    if problems:
        raise ArchitectureError(
            f"{path}: the weights do not fit {name}: {'; '.join(problems)}. Say the right one with --arch"
        )
    module.load_state_dict(weights, strict=False)  # strict but for the counters, as checked above
    return module


def _call(build: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    torch = import_torch()
    try:
        module = build(**options)
    except Exception as error:  # the user's own constructor
        called = ", ".join(f"{k}={v}" for k, v in options.items())
        raise ArchitectureError(f"{name}({called}) can't be built: {first_line(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise ArchitectureError(f"{name}() gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
