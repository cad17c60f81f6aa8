"""Heads that a request adds to a network that embeds images: the embedding's direction, or the scores of classes by their vectors.

The network itself stays as it is, with one output more. CLIP and its kin are deployed as image encoders; their classes are the
embeddings of texts (Radford et al. 2021, arXiv:2103.00020, section 3.1.2): scores = scale * y / |y| . t_c, |t_c| = 1.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from xai_deploy.foundation.arrays import read_npy

from ..errors import GraphError, RequestError
from ..request import Request

EMBEDDING = "unit_embedding"
SCORES = "class_scores"
_FILE_LIMIT = 1 << 30  # bytes of a file of vectors


def add_head(proto: onnx.ModelProto, output: str, request: Request) -> str:
    """Add the head that a request names: the scores of its classes' vectors, or the embedding's direction.

    Args:
        proto: The network; changed in place.
        output: As for `add_embedding_head`.
        request: The export.

    Returns:
        The new output's name.

    Raises:
        RequestError, GraphError: As `add_zero_shot_head`.
    """
    if request.classes is None:
        return add_embedding_head(proto, output)
    scale = 1.0 if request.logit_scale is None else request.logit_scale
    return add_zero_shot_head(proto, output, request.classes, scale)


def add_embedding_head(proto: onnx.ModelProto, output: str) -> str:
    """Add an output with the embedding divided by its length.

    Args:
        proto: The network; changed in place.
        output: Its output that holds the embedding, [N,D] or [N,D,1,1].

    Returns:
        The new output's name.

    Raises:
        GraphError: The output holds more than one vector for each image, or no floats.
    """
    value = next(v for v in proto.graph.output if v.name == output)
    _length(value)
    flat, new = _free(proto, f"{EMBEDDING}/flat"), _free(proto, EMBEDDING)
    proto.graph.node.extend(
        [
            onnx.helper.make_node("Flatten", [output], [flat], name=flat, axis=1),
            onnx.helper.make_node("LpNormalization", [flat], [new], name=new, axis=1, p=2),
        ]
    )
    proto.graph.output.append(onnx.helper.make_tensor_value_info(new, value.type.tensor_type.elem_type, None))
    return new


def add_zero_shot_head(proto: onnx.ModelProto, output: str, file: Path, scale: float) -> str:
    """Add an output with the scores of classes, each given by a vector.

    Args:
        proto: The network; changed in place.
        output: As for `add_embedding_head`.
        file: `.npy` file of floats [classes,D]; their lengths do not matter.
        scale: Factor on the cosines, as the network was trained with.

    Returns:
        The new output's name.

    Raises:
        RequestError: The file holds no such vectors.
        GraphError: As `add_embedding_head`.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise RequestError(f"--logit-scale is a number above 0, not {scale:g}")
    value = next(v for v in proto.graph.output if v.name == output)
    vectors = _vectors(file, _length(value))
    direction = add_embedding_head(proto, output)
    del proto.graph.output[-1]  # the scores are the output
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    weights, new = _free(proto, f"{SCORES}/vectors"), _free(proto, SCORES)
    proto.graph.initializer.append(onnx.numpy_helper.from_array((scale * vectors.T).astype(kind), weights))
    proto.graph.node.append(onnx.helper.make_node("MatMul", [direction, weights], [new], name=new))
    proto.graph.output.append(onnx.helper.make_tensor_value_info(new, value.type.tensor_type.elem_type, None))
    return new


def _length(value: onnx.ValueInfoProto) -> int | None:
    """D of an output [N,D] or [N,D,1,1]; None if the file does not say."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
        raise GraphError(f"the output {value.name!r} holds no floats, so it is no embedding")
    if not tensor.HasField("shape"):
        return None
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    if len(dims) < 2 or any(d != 1 for d in dims[2:]):
        said = ", ".join("?" if d is None else str(d) for d in dims)
        raise GraphError(
            f"the output {value.name!r} has shape [{said}]; an embedding is one vector for each image, [N, D]: export the network "
            "up to its pooled output, or name another with --output"
        )
    return dims[1]


def _vectors(file: Path, length: int | None) -> NDArray[np.float64]:
    """The vectors of classes [classes,D], each of length 1."""
    vectors = read_npy(file, _FILE_LIMIT, f"--classes {file}", RequestError)
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or 0 in vectors.shape:
        said = f"{vectors.dtype} {list(vectors.shape)}"
        raise RequestError(f"--classes {file}: holds {said}; give floats [classes, D], a vector for each class")
    if length is not None and vectors.shape[1] != length:
        turned = "; it seems to be transposed" if vectors.shape[0] == length else ""
        raise RequestError(
            f"--classes {file}: vectors of {vectors.shape[1]} numbers; the network's embedding has {length}{turned}"
        )
    vectors = vectors.astype(np.float64)
    with np.errstate(over="ignore"):  # numbers above 1e154
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        row = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise RequestError(f"--classes {file}: the vector of class {row} is zero or not finite: it has no direction")
    return np.asarray(vectors / lengths, np.float64)


def _free(proto: onnx.ModelProto, name: str) -> str:
    """The name, or the name with a number if it is taken."""
    graph = proto.graph
    taken = {n for node in graph.node for n in node.output} | {v.name for v in (*graph.input, *graph.initializer)}
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
