"""A torch.export program, `.pt2`. torch evaluates expressions in it as Python while it loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import RequestError, SourceError
from ..request import Request
from .consent import require_trust
from .source_file import SourceFile, TrainedNetwork, refuse_arch
from .torch_export import IMAGE, OPSET, first_line, import_torch, named_outputs, quiet


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
    example = _image_of(file, request, program)
    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGE],
                verbose=False,
                optimize=not request.keep_batchnorm,
            )
    except Exception as error:
        raise SourceError(f"{file.path}: the program can't be exported to ONNX: {first_line(error)}") from error
    model = exported.model
    batch = example.shape[0]
    names = [str(v.name) for v in model.graph.outputs]

    def results_of(images: Any) -> list[Any]:
        return list(named_outputs(module(images)).values())

    def reference(x: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        with torch.no_grad(), quiet():
            if not isinstance(batch, int):
                return dict(zip(names, [v.numpy() for v in results_of(torch.from_numpy(x))], strict=True))
            repeated = [torch.from_numpy(image[None].repeat(batch, axis=0)) for image in x]  # to its batch
            results = [[value[:1] for value in results_of(images)] for images in repeated]
            return {name: torch.cat([r[i] for r in results]).numpy() for i, name in enumerate(names)}

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


def _image_of(file: SourceFile, request: Request, program: Any) -> Any:
    """The example of the program's one input, a tensor without values, [N,C,H,W], [N,C,D,H,W] or [N,D,C,H,W].

    Raises:
        SourceError: It has several inputs, or one that is no image.
        RequestError: `input_shape` is not its shape.
    """
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    if len(inputs) != 1 or "val" not in inputs[0].meta or inputs[0].meta["val"].ndim not in (4, 5):
        raise SourceError(
            f"{file.path}: the program takes {len(inputs)} inputs; xai-export reads programs of one image [N,C,H,W] or one "
            "volume [N,C,D,H,W] or [N,D,C,H,W]; export others to ONNX with torch.onnx.export, and give that file"
        )
    example = inputs[0].meta["val"]
    shape = tuple(int(d) for d in example.shape[1:] if isinstance(d, int))
    if request.input_shape is not None and len(shape) == example.ndim - 1 and shape != request.input_shape:
        raise RequestError(f"{file.path}: the program takes images of shape {shape}, not {request.input_shape}")
    return example
