"""What a server's repository is made of, and the registry that finds the servers: one file per server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from xai_deploy.foundation.registry import Registry

from ...errors import GraphError

VERSION = "1"
"""The version folder of a model; servers take the highest."""

LABELS = "labels.txt"


@dataclass(frozen=True)
class Served:
    """A model to serve.

    Attributes:
        name: The name that clients ask for, and the model's folder; see `safe_name`.
        model: The graph as ONNX, self-contained; its inputs and outputs have the batch first, symbolic or 1.
        labels: One per class, or none.
        openvino: The same as OpenVINO IR (xml, bin); if given, it is served instead of the ONNX file.
        logits_output: The output that the labels belong to.
    """

    name: str
    model: bytes
    labels: Sequence[str]
    openvino: tuple[bytes, bytes] | None
    logits_output: str


Layout = Callable[[Sequence[Served]], Mapping[str, bytes]]
"""Lays out a repository: models -> content of every file by its path in the repository, written with /."""

servers: Registry[Layout] = Registry(__package__)
"""Kind of server -> its layout."""


@dataclass(frozen=True)
class Tensor:
    """An input or an output: its name, ONNX element type, the batch, and dims after it; -1 is any size."""

    name: str
    type: int
    batch: int
    dims: tuple[int, ...]


def read_tensors(served: Served) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs and the outputs of a model.

    Raises:
        GraphError: A tensor has a fixed batch other than 1, or no batch.
    """
    graph = onnx.load_model_from_string(served.model).graph
    # before version 4 of the IR, weights had to be among the inputs
    weights = {weight.name for weight in graph.initializer}
    inputs = [_tensor(value, served.name) for value in graph.input if value.name not in weights]
    return inputs, [_tensor(value, served.name) for value in graph.output]


def _tensor(value: onnx.ValueInfoProto, model: str) -> Tensor:
    tensor = value.type.tensor_type
    # -1 is an open size; a scalar counts as a batch of 0, which is refused
    batch, *dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim] or [0]
    if batch not in (-1, 1):
        raise GraphError(
            f"model {model!r}: {value.name!r} has no batch in front, symbolic or 1; a server can't give it images at will"
        )
    return Tensor(value.name, tensor.elem_type, batch, tuple(dims))


def safe_name(text: str) -> str:
    """A name for a model that is safe for a folder and in an address: letters, digits, and - _ . within.

    grad-cam++ becomes grad-campp: an address can't hold a plus as it is, and without it the name would be another method's.
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text.replace("+", "p")).strip("._-") or "model"


def model_files(served: Served) -> dict[str, bytes]:
    """What every server needs: NAME/1/model.onnx, or model.xml and model.bin, and the labels beside the version."""
    folder = f"{served.name}/{VERSION}"
    files = {f"{folder}/model.onnx": served.model}
    if served.openvino is not None:
        xml, weights = served.openvino
        files = {f"{folder}/model.xml": xml, f"{folder}/model.bin": weights}
    if served.labels:
        files[f"{served.name}/{LABELS}"] = "".join(f"{label}\n" for label in served.labels).encode()
    return files
