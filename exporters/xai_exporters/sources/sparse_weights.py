"""Write sparse weights as dense ones: no operator, converter or runtime here reads `sparse_initializer`."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from ..errors import SourceError


def write_dense(model: onnx.ModelProto, limit: int, file: object) -> None:
    """Replace the sparse weights of a model, in place.

    Args:
        model: The model.
        limit: How many bytes all of them may take.
        file: The file, for messages.

    Raises:
        SourceError: They take more, or their indices do not fit their shape.
    """
    for sparse in model.graph.sparse_initializer:
        name, dims = sparse.values.name, list(sparse.dims)
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        limit -= math.prod(dims) * values.itemsize
        if limit < 0 or any(size < 0 for size in dims):
            raise SourceError(f"{file}: its sparse weights would take far more than its file; refused")
        if indices.ndim == 2 and indices.shape[1] == len(dims):
            inside = ((indices >= 0) & (indices < np.array(dims))).all()
            flat = np.ravel_multi_index(tuple(indices.T), dims) if inside and dims else np.zeros(len(indices), np.int64)
        else:
            flat, inside = indices.reshape(-1), ((indices >= 0) & (indices < math.prod(dims))).all()
        if not inside or flat.shape != values.reshape(-1).shape:
            raise SourceError(f"{file}: damaged; the indices of the sparse weight {name!r} do not fit its shape {dims}")
        dense = np.zeros(math.prod(dims), values.dtype)
        dense[flat] = values.reshape(-1)
        model.graph.initializer.append(numpy_helper.from_array(dense.reshape(dims), name))
    del model.graph.sparse_initializer[:]
