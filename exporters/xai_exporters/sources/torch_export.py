"""A live torch module -> ONNX; a forward hook taps the target layer if the layer is a module."""

from __future__ import annotations

import ast
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import LayerError, SourceError
from ..graph.module_paths import no_such_layer
from ..graph.writing import name_outputs
from ..request import Request, layer_names
from . import torch_inputs
from .configured import frame_count, image_size, stated_by_module
from .source_file import NOTHING, Further, TrainedNetwork
from .stated import Stated

IMAGE = "image"
OPSET = 18
_TAP = "xai_tap"
_CALL = re.compile(r"(.+)#(\d+)")  # "relu#2": the second call of the module "relu"


def import_torch() -> Any:
    """torch, of a version whose weights_only loading is safe.

    Raises:
        SourceError: torch is missing or too old.
    """
    try:
        import torch
    except ImportError:
        raise SourceError("this source needs torch; pip install 'xai-deploy-exporters[torch]'") from None
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 10):
        raise SourceError(
            f"torch {torch.__version__} can be made to run code from weight files; use torch 2.10 or later"
        )
    return torch


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's own warnings and logs (deprecations inside its exporters, tracebacks of what is raised) from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def example_input(request: Request, shape: tuple[int, ...] = (3, 224, 224)) -> Any:
    """Two images of noise, [2,C,H,W]; `shape` is (C,H,W), or that of a film, unless the request gives one."""
    torch = import_torch()
    return torch.rand((2, *(request.input_shape or shape)), generator=torch.Generator().manual_seed(0))


def export_module(
    module: Any, request: Request, kind: str, stated: Stated | None = None, notes: tuple[str, ...] = ()
) -> TrainedNetwork:
    """Export a module in evaluation mode.

    The output of each submodule that `request.split` names becomes an extra output of the graph: a tap. A tap is exact in
    cases in which names are not: a convolution whose BatchNorm would be folded into it, a Dropout, a module called twice
    ("relu#2" is the second call).

    Args:
        module: The network.
        request: The export.
        kind: The source's description, for people.
        stated: The preprocessing that the source states; None takes the module's own statement, or else ImageNet's preset.
        notes: Lines for people about how the network was recognised and built.

    Raises:
        LayerError: The submodule is not called, is called several times, or gives no tensor.
        SourceError: The module does not run, or torch can't export it.
    """
    torch = import_torch()
    try:
        module = module.eval().float()
    except Exception as error:  # unpickled from a damaged file, or by another version of its class
        raise SourceError(f"{request.source}: not a usable module ({first_line(error)})") from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    modules = dict(module.named_modules())
    tapped = {name: found for name in layer_names(request.split) if (found := _submodule(name, modules)) is not None}
    taps = {name: _tap_name(i) for i, name in enumerate(tapped)}
    stated = stated or stated_by_module(module)
    size = stated.size if stated is not None else image_size(module)
    channels = len(stated.fields["mean"]) if stated is not None else 3
    usual = (channels, *(size or (224, 224)))
    frames = frame_count(module)
    shape: tuple[int, ...] = request.input_shape or (usual if frames is None else (frames, *usual))
    names = torch_inputs.parameters(module, request)
    several = len(names) > 1
    given = torch_inputs.examples(names, request, shape) if several else {IMAGE: example_input(request, shape).numpy()}
    tapping = _tapping(torch, module, list(tapped.values()), names if several else [])
    model = _export(tapping, given, request, list(taps.values()))

    def reference(images: NDArray[Any], further: Further = NOTHING) -> Mapping[str, NDArray[Any]]:
        values = tensors(further.in_order(list(given), images))
        with torch.no_grad():
            outputs = module(**dict(zip(names, values, strict=True))) if several else module(*values)
            return {name: value.numpy() for name, value in named_outputs(outputs).items()}

    return TrainedNetwork(ir.to_proto(model), kind, stated or "imagenet", taps, reference, notes)


def _submodule(name: str, modules: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """The path of the submodule that a layer's name stands for, and which of its calls; None if it is no submodule.

    Raises:
        LayerError: It can only be meant as a submodule, and there is none.
    """
    path, call = name, None
    if path not in modules and (match := _CALL.fullmatch(path)) and match[1] in modules:
        path, call = match[1], int(match[2])
    if path in modules and path:
        return path, call
    if path != "auto" and _is_module_path(path, modules):
        raise LayerError(no_such_layer(path, [known for known in modules if known]))
    return None


def _tap_name(number: int) -> str:
    """The name of a tap's output."""
    return f"{_TAP}_{number}" if number else _TAP


def tensors(arrays: Sequence[NDArray[Any]]) -> list[Any]:
    """Arrays as torch's tensors."""
    torch = import_torch()
    return [
        torch.from_numpy(np.array(array)) for array in arrays
    ]  # a copy: torch warns of arrays that it may not write to


def _export(wrapper: Any, given: Mapping[str, NDArray[Any]], request: Request, taps: Sequence[str]) -> ir.Model:
    """A wrapped module as ONNX, its batch symbolic, its outputs under their own names and the taps'.

    Raises:
        LayerError: The submodule of a tap is not called, is called several times, or gives no tensor.
        SourceError: The module does not run, or torch can't export it.
    """
    torch = import_torch()
    example, shapes = tuple(tensors(list(given.values()))), [array.shape[1:] for array in given.values()]
    with quiet(), torch.no_grad():
        try:
            outputs = named_outputs(wrapper(*example)[0])
        except LayerError:
            raise
        except Exception as error:  # the user's own forward code
            advice = "give its --input-shape"
            if len(given) > 1:
                advice += (
                    ", and say what its further inputs are: --input-image NAME:shape=CxHxW, --input NAME=FILE.npy, "
                )
                advice += "NAME=NUMBER or NAME=array:SHAPE"
            on = ", ".join(f"{name} {shape}" for name, shape in zip(given, shapes, strict=True))
            raise SourceError(
                f"{request.source}: the network does not run on "
                f"{on if len(given) > 1 else f'images of shape {shapes[0]}'} ({first_line(error)}); {advice}"
            ) from error
        names, batch = [*outputs, *taps], torch.export.Dim("N")
        try:
            exported = torch.onnx.export(
                wrapper,
                example,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(
                    tuple({0: batch} if torch_inputs.has_rows(array) else None for array in given.values()),
                ),
                input_names=list(given),
                output_names=names,
                optimize=not request.keep_batchnorm,  # optimising merges it; our passes fold constants in any case
                verbose=False,
            )
        except Exception as error:  # torch.export documents no exception types
            raise SourceError(
                f"{request.source}: torch can't export the network ({first_line(error)}); "
                "try a TorchScript archive (torch.jit.trace) or your own ONNX export as the source"
            ) from error
    model: ir.Model = exported.model
    _unwrap_names(model)
    name_outputs(model.graph, names)
    return model


def named_outputs(output: Any) -> dict[str, Any]:
    """A module's output as tensors by name: a dict's keys, a named tuple's fields, or "output", "output_1", ...

    Raises:
        SourceError: Something in it is not a tensor.
    """
    torch = import_torch()
    if isinstance(output, torch.Tensor):
        return {"output": output}
    if isinstance(output, dict):
        named = dict(output)
    elif hasattr(output, "_asdict"):
        named = output._asdict()
    elif isinstance(output, (tuple, list)):
        named = {f"output_{i}" if i else "output": v for i, v in enumerate(output)}
    else:
        named = {"output": output}
    named = {str(name): value for name, value in named.items() if value is not None}
    if not named or not all(isinstance(value, torch.Tensor) for value in named.values()):
        raise SourceError("the network's output is not a tensor, nor a flat dict or tuple of tensors")
    return named


def first_line(error: Exception) -> str:
    """An error's type, and the first line of its message that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _tapping(torch: Any, module: Any, taps: Sequence[tuple[str, int | None]], inputs: Sequence[str]) -> Any:
    """A module that gives its output, and the output of the submodule at each path; several inputs are passed on by their names."""

    class Tapping(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = module

        def forward(self, *images: Any) -> Any:
            seen: list[list[Any]] = [[] for _ in taps]
            hooks = []
            for (path, _), calls in zip(taps, seen, strict=True):
                # a clone, because an in-place ReLU after the layer would overwrite the tensor
                hook = self.net.get_submodule(path).register_forward_hook(
                    lambda _module, _args, out, calls=calls: calls.append(
                        out.clone() if isinstance(out, torch.Tensor) else out
                    )
                )
                hooks.append(hook)
            try:
                output = self.net(**dict(zip(inputs, images, strict=True))) if inputs else self.net(*images)
            finally:
                for hook in hooks:
                    hook.remove()
            return output, *(_chosen(torch, calls, *tap) for calls, tap in zip(seen, taps, strict=True))

    return Tapping().eval()


def _chosen(torch: Any, seen: list[Any], path: str, call: int | None) -> Any:
    if not seen:
        raise LayerError(f"the module {path!r} is never called in the forward pass; split at another")
    if call is None and len(seen) > 1:
        raise LayerError(
            f"the module {path!r} is called {len(seen)} times; choose one: {path}#1 ... {path}#{len(seen)}"
        )
    number = 1 if call is None else call
    if not 1 <= number <= len(seen):
        raise LayerError(f"the module {path!r} is called {len(seen)} times; there is no call #{number}")
    chosen = seen[number - 1]
    if not isinstance(chosen, torch.Tensor):
        raise LayerError(
            f"the module {path!r} gives a {type(chosen).__name__}, not one tensor; split at a module inside it"
        )
    return chosen


def _is_module_path(name: str, modules: Mapping[str, Any]) -> bool:
    """Whether a name can only be meant as a module path: its first part is a module."""
    return name.partition(".")[0] in modules


def _unwrap_names(model: ir.Model) -> None:
    """Remove the wrapper's "net." from module paths and weights."""
    for node in model.graph:
        recorded = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        if recorded is not None:
            scopes = [str(s) for s in ast.literal_eval(recorded)]
            kept = [s.removeprefix("net.") for s in scopes if s != "net"]
            node.metadata_props["pkg.torch.onnx.name_scopes"] = repr(kept)
    for value in list(model.graph.initializers.values()):
        if value.name is not None and value.name.startswith("net."):
            value.name = value.name.removeprefix("net.")
