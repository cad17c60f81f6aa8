"""NVIDIA Triton: NAME/config.pbtxt beside NAME/1/model.onnx (onnxruntime backend) or model.xml and model.bin (openvino).

The onnxruntime backend joins waiting requests along the batch, which the config leaves out of `dims`. A tensor [N] has no
dims left, which Triton does not allow: clients send [N,1], and `reshape` takes the 1 away. For a network that takes one image
at a time, max_batch_size is 0 and dims include the batch. The openvino backend runs on the CPU and gets each request as it
comes. Its dims give the batch as -1. They must be those that OpenVINO itself derives, so they are read from the IR.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from onnx import TensorProto

from ...errors import GraphError
from .served import LABELS, Served, Tensor, model_files, read_tensors, servers

_MAX_BATCH = 8

_TYPES: Mapping[int, str] = {
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.DOUBLE: "TYPE_FP64",
    TensorProto.UINT8: "TYPE_UINT8",
    TensorProto.INT8: "TYPE_INT8",
    TensorProto.INT32: "TYPE_INT32",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.BOOL: "TYPE_BOOL",
}


@servers.register("triton")
def triton(models: Sequence[Served]) -> Mapping[str, bytes]:
    """Lay out a model repository of Triton.

    Raises:
        GraphError: A tensor has a type that Triton has no name for, or is not in the IR.
    """
    files: dict[str, bytes] = {}
    for served in models:
        files |= model_files(served)
        files[f"{served.name}/config.pbtxt"] = _config(served).encode()
    return files


def _config(served: Served) -> str:
    """The ModelConfig as protobuf text."""
    inputs, outputs = read_tensors(served)
    shapes = None if served.openvino is None else _ir_shapes(served.openvino[0])
    # shapes with the batch are needed if Triton does not form batches itself
    if shapes is None and any(tensor.batch == 1 for tensor in inputs):
        shapes = {tensor.name: (tensor.batch, *tensor.dims) for tensor in (*inputs, *outputs)}
    batched, backend = shapes is None, "onnxruntime" if served.openvino is None else "openvino"
    lines = [
        f"name: {_quote(served.name)}",
        f"backend: {_quote(backend)}",
        f"max_batch_size: {_MAX_BATCH if batched else 0}",
    ]
    for field, tensors in (("input", inputs), ("output", outputs)):
        entries = [_entry(tensor, field, served, shapes) for tensor in tensors]
        lines += [f"{field} [", ",\n".join(entries), "]"]
    if batched:
        lines.append("dynamic_batching { }")
    elif served.openvino is not None:
        lines.append("instance_group [ { kind: KIND_CPU } ]")
    return "\n".join(lines) + "\n"


def _entry(tensor: Tensor, field: str, served: Served, shapes: Mapping[str, tuple[int, ...]] | None) -> str:
    """One input or output; `shapes` include the batch."""
    if tensor.type not in _TYPES:
        kind = TensorProto.DataType.Name(tensor.type)
        raise GraphError(f"model {served.name!r}: {tensor.name!r} holds {kind}, which Triton does not serve")
    lines = [f"name: {_quote(tensor.name)}", f"data_type: {_TYPES[tensor.type]}"]
    if shapes is None:
        lines.append(f"dims: {_list(tensor.dims or (1,))}")
        if not tensor.dims:  # a tensor [N]: clients send [N,1]
            lines.append("reshape: { shape: [ ] }")
    elif tensor.name in shapes:
        lines.append(f"dims: {_list(shapes[tensor.name])}")
    else:
        raise GraphError(f"model {served.name!r}: the OpenVINO IR has no tensor {tensor.name!r}")
    if field == "output" and served.labels and tensor.name == served.logits_output:
        lines.append(f"label_filename: {_quote(LABELS)}")
    return "  {\n" + "".join(f"    {line}\n" for line in lines) + "  }"


def _ir_shapes(xml: bytes) -> dict[str, tuple[int, ...]]:
    """The shape of every named tensor of an OpenVINO IR; -1 is any size."""
    shapes = {}
    for port in ElementTree.fromstring(xml).iter("port"):
        for name in re.split(r"(?<!\\),", port.get("names", "")):  # a comma in a name is written "\\,"
            shapes[name.replace("\\,", ",")] = tuple(int(dim.text or -1) for dim in port.iter("dim"))
    return shapes


def _list(dims: Sequence[int]) -> str:
    return f"[ {', '.join(map(str, dims))} ]"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
