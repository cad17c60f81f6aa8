"""Sparse weights become dense ones: against ONNX's own text of both forms of indices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from xai_exporters.errors import SourceError
from xai_exporters.sources.sparse_weights import write_dense

from .. import onnx_nets as o
from ..running import export_onnx

WEIGHT = np.array([[0, 2, 0, 0], [1, 0, 0, -3], [0, 0, 0, 0]], np.float32)


def sparse(indices: Any, dims: tuple[int, ...] = WEIGHT.shape, values: Any = (2, 1, -3)) -> onnx.ModelProto:
    model = onnx.ModelProto()
    given = numpy_helper.from_array(np.array(values, np.float32), "w")
    at = numpy_helper.from_array(np.array(indices, np.int64), "at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(given, at, dims))
    return model


@pytest.mark.parametrize("indices", [[1, 4, 7], [[0, 1], [1, 0], [1, 3]]], ids=["in one number", "in coordinates"])
def test_dense(indices: Any) -> None:
    model = sparse(indices)
    write_dense(model, 1 << 10, "net.onnx")
    assert not model.graph.sparse_initializer
    [tensor] = model.graph.initializer
    assert tensor.name == "w"
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), WEIGHT)


@pytest.mark.parametrize("indices", [[1, 4, 12], [-1, 4, 7], [1, 4], [[0, 1], [1, 0], [3, 0]]])
def test_indices_that_do_not_fit(indices: Any) -> None:
    with pytest.raises(
        SourceError, match=r"damaged; the indices of the sparse weight 'w' do not fit its shape \[3, 4\]"
    ):
        write_dense(sparse(indices), 1 << 10, "net.onnx")


def test_a_bomb() -> None:
    with pytest.raises(SourceError, match="its sparse weights would take far more than its file"):
        write_dense(sparse([1, 4, 7], (1 << 20, 1 << 20)), 1 << 30, "net.onnx")


def test_a_file(tmp_path: Path) -> None:
    dense, same = o.classifier(), o.classifier()
    tensor = max(same.graph.initializer, key=lambda t: len(t.dims))
    array = numpy_helper.to_array(tensor)
    values = numpy_helper.from_array(array.reshape(-1), tensor.name)
    places = numpy_helper.from_array(np.arange(array.size), "places")
    same.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, array.shape))
    same.graph.initializer.remove(tensor)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (export_onnx(tmp_path / name, model) for name, model in (("a", dense), ("b", same)))
    assert one.manifest.graphs == other.manifest.graphs
