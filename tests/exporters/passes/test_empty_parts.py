"""Parts without elements are left out, and both runtimes give what the source's definition says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator
from xai_exporters.passes.clean import clean

from .. import onnx_nets as o
from ..checks import close, onnxruntime, open_vino

SHAPE = (3, 8, 8)
IMAGES = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
ROI: dict[str, Any] = {"output_height": 2, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 1.0}


def pooled(kind: str) -> onnx.ModelProto:
    """Two regions of the first image's features, and the none of another level, put together; the images' mean is added."""
    b = o.Build()

    def level(boxes: Any) -> str:
        rows = np.array(boxes, np.float32).reshape(-1, 4)
        return b("RoiAlign", "image", b.weight(rows), b.weight(np.zeros(len(rows), np.int64)), **ROI)

    none, two = level([]), level([[0, 0, 4, 4], [1, 1, 6, 6]])
    if kind == "Concat":
        both = b("Concat", none, two, none, axis=0)
    elif kind == "Concat of three":
        both = b("Slice", b("Concat", two, none, two, axis=0), b.weight([1]), b.weight([3]), b.weight([0]))
    elif kind == "ScatterND":
        empty = b("ScatterND", b.draw(2, 3, 2, 2), b.weight(np.zeros((0, 1), np.int64)), none)
        both = b("ScatterND", empty, b.weight([[1], [0]]), two)
    else:
        where = [b.weight(np.zeros((n, 3, 2, 2), np.int64) + np.arange(n).reshape(-1, 1, 1, 1)) for n in (0, 2)]
        both = b("ScatterElements", b("ScatterElements", b.draw(2, 3, 2, 2), where[0], none), where[1], two)
    mean = b("ReduceMean", "image", b.weight([1, 2, 3]), keepdims=0)
    regions = b("Unsqueeze", b("ReduceSum", both, keepdims=0), b.weight([0]))
    return b.model(b("Add", mean, regions, out="y"), shape=("N", *SHAPE))


@pytest.mark.parametrize("kind", ["Concat", "Concat of three", "ScatterND", "ScatterElements"])
def test_same_result(kind: str) -> None:
    model = pooled(kind)
    results: Any = ReferenceEvaluator(model).run(None, {"image": IMAGES})
    cleaned = clean(model, None).model
    assert sum(node.op_type == "RoiAlign" for node in cleaned.graph) == 1
    written = ir.to_proto(cleaned).SerializeToString()
    for run in (onnxruntime, open_vino):
        close(run(written, {"image": IMAGES})["y"], results[0], 1e-5)
