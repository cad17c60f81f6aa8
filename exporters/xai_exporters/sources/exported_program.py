"""A torch.export program, `.pt2`. torch evaluates expressions in it as Python while it loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import RequestError, SourceError
from ..request import Request
from .consent import require_trust
from .source_file import NOTHING, Further, SourceFile, TrainedNetwork, refuse_arch
from .torch_export import IMAGE, OPSET, first_line, import_torch, named_outputs, quiet, tensors


def matches(file: SourceFile) -> bool:
    """A zip archive of the pt2 kind."""
    return "archive_format" in file.entries and any(n.startswith("models/") for n in file.entries)


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Load the program and export it; module paths are in the program's metadata.

    A program of one fixed batch is exported as it is; the passes make its batch symbolic if they can.

    Raises:
        UntrustedSourceError: `trust_code` is not set.
        SourceError: The program can't be loaded or exported.
        RequestError: `input_shape` is not the program's, or an option is given that is for files of weights only.
    """
    refuse_arch(file, request, "a torch.export program (.pt2)")
    require_trust(
        file,
        request,
        "a torch.export program (.pt2)",
        "loading it runs code from the file (torch evaluates its expressions)",
    )
    torch = import_torch()
    program, module = _read(file)
    examples = _examples_of(file, request, program)
    inputs = list(examples) if len(examples) > 1 else [IMAGE]
    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=inputs,
                verbose=False,
                optimize=not request.keep_batchnorm,
            )
    except Exception as error:
        raise SourceError(f"{file.path}: the program can't be exported to ONNX: {first_line(error)}") from error
    model = exported.model
    batch = next(value.shape[0] for value in examples.values() if value.ndim in (4, 5))
    names = [str(v.name) for v in model.graph.outputs]

    def results_of(values: list[Any]) -> list[Any]:
        args, kwargs = torch.utils._pytree.tree_unflatten(values, program.call_spec.in_spec)
        return list(named_outputs(module(*args, **kwargs)).values())

    def reference(images: NDArray[Any], further: Further = NOTHING) -> Mapping[str, NDArray[Any]]:
        with torch.no_grad(), quiet():
            if not isinstance(batch, int):
                results = results_of(tensors(further.in_order(inputs, images)))
                return dict(zip(names, [v.numpy() for v in results], strict=True))
            singles = []
            for i, image in enumerate(images):
                row = further.at(i)
                rows = {name: value.repeat(batch, axis=0) for name, value in row.rows.items()}  # to its batch
                given = Further(rows, row.whole).in_order(inputs, image[None].repeat(batch, axis=0))
                singles.append([value[:1] for value in results_of(tensors(given))])
            return {name: torch.cat([r[i] for r in singles]).numpy() for i, name in enumerate(names)}

    return TrainedNetwork(ir.to_proto(model), "torch.export program", "imagenet", reference=reference)


def _read(file: SourceFile) -> tuple[Any, Any]:
    """The program, and its module.

    Raises:
        SourceError: It can't be loaded.
    """
    torch = import_torch()
    with quiet():
        try:
            with open(file.path, "rb") as opened:  # torch refuses a path with another extension
                program = torch.export.load(opened)
            return program, program.module(check_guards=False)
        except Exception as error:  # torch.export documents no exception types
            raise SourceError(f"{file.path}: not a readable torch.export program: {first_line(error)}") from error


def _examples_of(file: SourceFile, request: Request, program: Any) -> dict[str, Any]:
    """The program's inputs by name, tensors without values; one of them at least is [N,C,H,W], [N,C,D,H,W] or [N,D,C,H,W].

    Raises:
        SourceError: An input is no tensor, or none is an image.
        RequestError: `input_shape` is not the shape of the one input.
    """
    torch = import_torch()
    nodes = {node.name: node for node in program.graph.nodes}
    inputs = program.graph_signature.user_inputs
    values: dict[str, Any] = {str(name): nodes[name].meta.get("val") if name in nodes else None for name in inputs}
    if odd := next((name for name, value in values.items() if not isinstance(value, torch.Tensor)), None):
        raise SourceError(
            f"{file.path}: the program's input {odd!r} is no tensor; export the program with tensors alone as its inputs"
        )
    images = [value for value in values.values() if value.ndim in (4, 5)]
    if not images:
        shown = ", ".join(f"{name} {list(value.shape)}" for name, value in values.items()) or "none"
        raise SourceError(
            f"{file.path}: none of the program's inputs ({shown}) is an image [N,C,H,W], or a volume [N,C,D,H,W] or [N,D,C,H,W]"
        )
    shape = tuple(int(d) for d in images[0].shape[1:] if isinstance(d, int))
    alone = len(values) == 1 and len(shape) == images[0].ndim - 1
    if request.input_shape is not None and alone and shape != request.input_shape:
        raise RequestError(f"{file.path}: the program takes images of shape {shape}, not {request.input_shape}")
    return values
