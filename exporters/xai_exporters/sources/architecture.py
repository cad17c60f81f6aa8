"""Weights without a network: find or build the architecture they belong to."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xai_deploy.format.guard.expansion import constants_limit

from ..errors import ArchitectureError, SourceError
from ..request import Request
from . import timm_nets, torchvision_nets, transformers_nets
from .known_net import KnownNet
from .prefixes import without_prefix
from .source_file import SourceFile, TrainedNetwork
from .torch_export import export_module, first_line, import_torch
from .torchvision_nets import find_net, net_of

_NESTED = ("state_dict", "model_state_dict", "model", "net", "weights", "module")
_EXTRA = "_extra_state"
"""The end of torch's names for what a module keeps beside tensors."""
_PREFIXES = ("module.", "_orig_mod.")
_OLD_DENSENET = re.compile(
    r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)"
)  # "norm.1.weight", as torchvision's files have it


def network_from_weights(
    content: Mapping[str, Any], file: SourceFile, request: Request, notes: tuple[str, ...] = ()
) -> TrainedNetwork:
    """Build the architecture, load the weights into it, export it.

    Args:
        content: The file's content.
        file: The file.
        request: The export.
        notes: Lines for people about how the file was read.

    Raises:
        ArchitectureError: No weights in the file, no architecture known, or one that does not fit.
    """
    weights = find_weights(content, file.path)
    _check_plain(weights, file.path)
    notes += _chosen(content)
    net: KnownNet | None
    if request.arch is None:
        net = _named_by_file(content, file.path)
        build, name = net.build, net.name
    elif request.arch.startswith(transformers_nets.SCHEME):
        net = transformers_nets.timm_net(request.arch, file.path)
        if net is None:
            return transformers_nets.network(weights, file.path, request, notes)
        build, name = net.build, f"timm {net.name}"
    else:
        build, name, net = _builder(request.arch, file.path)
    module = _outline(build, name, request.arch_options, net)
    weights, under = without_prefix(weights, module.state_dict(), file.path)
    notes += (under,) if under is not None else ()
    options = dict(request.arch_options)
    if net is not None:
        options = net.options(weights, request.input_shape) | options
        module = None  # it has no numbers
    module, options = _load(build, weights, name, file.path, options, net, module)
    kind = f"torch state dict, {name}"
    if net is None:
        return export_module(module, request, kind, notes=notes)
    made = export_module(module, request, kind, net.stated(options, module), net.notes(options) + notes)
    if isinstance(net, timm_nets.TimmNet) and net.labels:
        return replace(made, labels=net.labels, labels_from=f"{net.folder}, 'label_names'")
    return made


def _named_by_file(content: Mapping[str, Any], path: Path) -> KnownNet:
    """The torchvision network in a file's name.

    Raises:
        ArchitectureError: There is none; the message says what the checkpoint itself calls its network.
    """
    try:
        return find_net(path)
    except ArchitectureError as error:
        own = content.get("arch")  # as torch's and timm's training scripts write it
        if not isinstance(own, str) or not re.fullmatch(r"[\w.-]{1,80}", own):
            raise
        raise ArchitectureError(f"{error}; the file says 'arch': {own!r}") from None


def _outline(build: Callable[..., Any], name: str, options: Mapping[str, Any], net: KnownNet | None) -> Any:
    """The network, to learn the names of its weights; a known network's weights get no memory, if it can be built so."""
    if net is None:
        return _call(build, name, options)
    torch = import_torch()
    try:
        with torch.device("meta"):
            return _call(build, name, options)
    except ArchitectureError:  # it reads numbers while it is built, or the options are wrong
        return _call(build, name, options)


def find_weights(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The state dict in a file's content, or under a checkpoint's usual keys in it; DataParallel's and compile's prefixes are cut.

    Raises:
        ArchitectureError: There is none.
    """
    weights = _state_dict(content)
    if weights is None:
        if sets := _sets(content):
            raise ArchitectureError(
                f"{path}: several sets of weights in it ({', '.join(map(repr, sets[:4]))}); save one of them alone"
            )
        keys = ", ".join(map(repr, list(content)[:8])) or "nothing"
        raise ArchitectureError(f"{path}: no state dict in it (it holds {keys}); looked under {', '.join(_NESTED)}")
    for prefix in _PREFIXES * 2:  # compiled inside DataParallel, or the other way round
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return {"".join(m.groups()) if (m := _OLD_DENSENET.fullmatch(key)) else key: v for key, v in weights.items()}


def holds_weights(content: Mapping[str, Any]) -> bool:
    """Whether a file's content is a state dict, or holds one or several."""
    return _state_dict(content) is not None or bool(_sets(content))


def _state_dict(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first mapping of names to tensors alone: the content, under a usual key, or the only one under any other key."""
    own = _tensors(content)
    if own is not None:
        return own
    key = _taken(content)
    return None if key is None else _tensors(content[key])


def _taken(content: Mapping[str, Any]) -> str | None:
    """The key of a checkpoint under which its weights are; None if there is none, or several that are not usual."""
    sets = _sets(content)
    usual = next((key for key in _NESTED if key in sets), None)
    return sets[0] if usual is None and len(sets) == 1 else usual


def _sets(content: Mapping[str, Any]) -> list[str]:
    """The keys under which a checkpoint holds weights, in its order."""
    return [key for key, value in content.items() if _tensors(value) is not None]


def _tensors(candidate: Any) -> dict[str, Any] | None:
    """A mapping of names to tensors alone, without what modules keep beside tensors; None for anything else."""
    torch = import_torch()
    if not isinstance(candidate, Mapping):
        return None
    state = {key: value for key, value in candidate.items() if not str(key).endswith(_EXTRA)}
    named = state and all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items())
    return state if named else None


def _chosen(content: Mapping[str, Any]) -> tuple[str, ...]:
    """A line for people if a checkpoint holds further sets of weights with the same names (EMA), or one under a rare key."""
    taken = None if _tensors(content) is not None else _taken(content)
    if taken is None:
        return ()
    also = [key for key in _sets(content) if key != taken and content[key].keys() == content[taken].keys()]
    if not also:
        return () if taken in _NESTED else (f"The weights are those under {taken!r}.",)
    names = ", ".join(map(repr, also))
    return (f"The weights are those under {taken!r}; the file holds others of the same names under {names}.",)


def _check_plain(weights: Mapping[str, Any], path: Path) -> None:
    """Refuse tensors that are more than the file can hold, or that are not kept as plain numbers.

    Raises:
        SourceError: There is such a tensor.
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
    if taken > constants_limit(size):  # strides of 0 repeat one number
        raise SourceError(f"{path}: its weights would take {taken} bytes, and the file has {size}; refused")


def _builder(arch: str, path: Path) -> tuple[Callable[..., Any], str, KnownNet | None]:
    """--arch as a callable: "timm:NAME", "MODULE:CALLABLE", "FILE.py:CALLABLE", "torchvision:NAME", or a torchvision name."""
    if arch.startswith(timm_nets.SCHEME):
        of_timm = timm_nets.find(arch.removeprefix(timm_nets.SCHEME), path)
        return of_timm.build, arch, of_timm
    module_name, colon, attribute = arch.rpartition(":")
    if not colon or f"{module_name}:" == torchvision_nets.SCHEME:
        net = find_net(path, attribute)
        return net.build, arch, net
    try:
        if module_name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module_name).stem, module_name)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(spec.name, module)  # as an import does; dataclasses look their module up there
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
    of_torchvision = net_of(build, path)
    return (build if of_torchvision is None else of_torchvision.build), arch, of_torchvision


def _load(
    build: Callable[..., Any],
    weights: Mapping[str, Any],
    name: str,
    path: Path,
    given: Mapping[str, Any],
    net: KnownNet | None,
    module: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """Build the network, with the weights' number of classes, and load them strictly.

    Args:
        build, name: What builds the network, and its name for people.
        weights: The state dict.
        path: The file.
        given: Arguments.
        net: The network, if it is one of a library's.
        module: The network as it is built with `given`; None: not built yet.

    Returns:
        The network, and the arguments that it was built with: those given, and those that the weights show.
    """
    module = module if module is not None else _call(build, name, given)
    options: dict[str, Any] = {}
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    # the architecture has auxiliary classifiers, the weights do not
    if any(".aux" in f".{key}" or "AuxLogits" in key for key in set(wanted) - set(weights)):
        options["aux_logits"] = False
    differing = [k for k, shape in wanted.items() if k in weights and tuple(weights[k].shape) != shape]
    # tensors that differ in their first size only: the classes
    counts = {
        int(weights[k].shape[0]) for k in differing if tuple(weights[k].shape[1:]) == wanted[k][1:] and weights[k].ndim
    }
    if differing and len(counts) == 1:
        options["num_classes"] = counts.pop()
    options = {**options, **given}
    if net is not None:
        options |= net.unsaid(module, options)
    if options != given:
        module = _call(build, name, options)
    problems = _fill(module, weights)
    if problems:
        own = ", and its options (in_chans, global_pool, ...) with --arch-options"
        raise ArchitectureError(
            f"{path}: the weights do not fit {name}: {'; '.join(problems)}. Give the right architecture with --arch"
            f"{own if isinstance(net, timm_nets.TimmNet) else ''}"
        )
    return module, options


def _fill(module: Any, weights: Mapping[str, Any]) -> list[str]:
    """Load the weights; returns what does not fit, in words.

    Modules' own hooks turn old names into new ones (torchvision's ViT). They read a version that the file may lack. If the module
    knows all names in the file, the version is the module's own.
    """
    own = module.state_dict()
    shapes = {key: tuple(value.shape) for key, value in own.items()}
    differing = [k for k, v in weights.items() if k in shapes and tuple(v.shape) != shapes[k]]
    integers = [k for k, v in weights.items() if k in own and own[k].is_floating_point() and not v.is_floating_point()]
    problems = [f"{k} is of {str(weights[k].dtype).removeprefix('torch.')}, not floats" for k in integers[:1]]
    problems += [f"{k} is {list(weights[k].shape)} instead of {list(shapes[k])}" for k in differing[:1]]
    missing, unexpected = set(own) - set(weights), set(weights) - set(own)
    if not problems:
        filled: Any = OrderedDict(weights)
        if not unexpected:
            filled._metadata = own._metadata
        try:
            missing, unexpected = map(set, module.load_state_dict(filled, strict=False))
        except Exception as error:  # raised by the modules' own hooks, or for anything else that does not fit
            problems.append(first_line(error))
    missing = {key for key in missing if not key.endswith("num_batches_tracked")}  # absent before torch 0.4.1
    lines = [f"it lacks {_some(sorted(missing))}"] if missing else []
    lines += [f"it has {_some(sorted(unexpected))} that the network lacks"] if unexpected else []
    return lines + problems


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
