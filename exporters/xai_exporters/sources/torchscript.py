"""A TorchScript archive. Only torch's older exporter takes it; everything about that exporter stays in this file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from ..errors import SourceError
from ..request import Request
from .consent import require_trust
from .source_file import SourceFile, TrainedNetwork, refuse_arch
from .torch_export import IMAGE, OPSET, example_input, first_line, import_torch, named_outputs, quiet


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
    example = example_input(request)
    buffer = io.BytesIO()
    with quiet():
        try:
            module = torch.jit.load(file.path, map_location="cpu").eval()
            with torch.no_grad():
                names = list(named_outputs(module(example)))
            torch.onnx.export(
                module,
                (example,),
                buffer,
                dynamo=False,
                # the module is in evaluation mode already; the exporter's own EVAL merges BatchNorm
                training=torch.onnx.TrainingMode.PRESERVE if request.keep_batchnorm else torch.onnx.TrainingMode.EVAL,
                opset_version=OPSET,
                input_names=[IMAGE],
                output_names=names,
                dynamic_axes={name: {0: "N"} for name in [IMAGE, *names]},
            )
        except Exception as error:  # TorchScript raises its own types, and RuntimeError for everything else
            tried = (
                ""
                if request.input_shape is not None
                else f" (images {list(example.shape[1:])}; --input-shape says another shape)"
            )
            raise SourceError(
                f"{file.path}: the TorchScript network can't be exported: {first_line(error)}{tried}"
            ) from error

    def reference(x: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        with torch.no_grad(), quiet():
            return {name: value.numpy() for name, value in named_outputs(module(torch.from_numpy(x))).items()}

    return TrainedNetwork(
        onnx.load_from_string(buffer.getvalue()), "TorchScript archive", "imagenet", reference=reference
    )
