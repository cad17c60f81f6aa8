"""A TorchScript archive. Only torch's older exporter takes it; everything about that exporter stays in this file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from ..errors import SourceError
from ..request import Request
from . import torch_inputs
from .consent import require_trust
from .source_file import NOTHING, Further, SourceFile, TrainedNetwork, refuse_arch
from .torch_export import IMAGE, OPSET, example_input, first_line, import_torch, named_outputs, quiet, tensors


def matches(file: SourceFile) -> bool:
    """A zip archive with compiled code."""
    return "constants.pkl" in file.entries and any(name.startswith("code/") for name in file.entries)


def load(file: SourceFile, request: Request) -> TrainedNetwork:
    """Load the archive and export it; module paths survive in node names ("/layer4/layer4.1/conv2/Conv").

    Raises:
        UntrustedSourceError: `trust_code` is not set.
        SourceError: The archive can't be loaded, run, or exported.
        RequestError: An option is given that is for files of weights only.
    """
    refuse_arch(file, request, "a TorchScript archive")
    require_trust(
        file,
        request,
        "a TorchScript archive",
        "running it runs code from the file (which can write files, or never end)",
    )
    torch = import_torch()
    buffer = io.BytesIO()
    with quiet():
        try:
            module = torch.jit.load(file.path, map_location="cpu").eval()
        except Exception as error:  # TorchScript raises its own types, and RuntimeError for everything else
            raise SourceError(f"{file.path}: the TorchScript network can't be read: {first_line(error)}") from error
    examples = _examples(module, request)
    whole = {name for name, array in examples.items() if not torch_inputs.has_rows(array)}
    with quiet():
        try:
            with torch.no_grad():
                names = list(named_outputs(module(*tensors(list(examples.values())))))
            torch.onnx.export(
                module,
                tuple(tensors(list(examples.values()))),
                buffer,
                dynamo=False,
                # the module is in evaluation mode already; the exporter's own EVAL merges BatchNorm
                training=torch.onnx.TrainingMode.PRESERVE if request.keep_batchnorm else torch.onnx.TrainingMode.EVAL,
                opset_version=OPSET,
                input_names=list(examples),
                output_names=names,
                dynamic_axes={name: {0: "N"} for name in [*examples, *names] if name not in whole},
            )
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape[1:])}" for name, array in examples.items())
            tried = "" if request.input_shape is not None else f" (tried: {shapes}; --input-shape says another shape)"
            raise SourceError(
                f"{file.path}: the TorchScript network can't be exported: {first_line(error)}{tried}"
            ) from error

    def reference(images: NDArray[Any], further: Further = NOTHING) -> Mapping[str, NDArray[Any]]:
        given = tensors(further.in_order(list(examples), images))
        with torch.no_grad(), quiet():
            return {name: value.numpy() for name, value in named_outputs(module(*given)).items()}

    return TrainedNetwork(
        onnx.load_from_string(buffer.getvalue()), "TorchScript archive", "imagenet", reference=reference
    )


def _examples(module: Any, request: Request) -> dict[str, NDArray[Any]]:
    """An example of each input, by its name in the archive; one alone is the image.

    Raises:
        RequestError: See `torch_inputs.examples`.
    """
    arguments = [one for one in module.forward.schema.arguments[1:] if not one.has_default_value()]
    image = example_input(request)
    if len(arguments) < 2:
        return {IMAGE: image.numpy()}
    return torch_inputs.examples([one.name for one in arguments], request, tuple(image.shape[1:]))
