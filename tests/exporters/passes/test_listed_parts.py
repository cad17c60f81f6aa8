"""Lists of parts become the parts; ONNX Runtime's run of the list is the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from xai_exporters.errors import GraphError
from xai_exporters.passes.clean import clean

from .. import onnx_nets as o
from ..checks import close, onnxruntime

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 16, 20)).astype(np.float32)
# what `split` holds (None: it is left out), the attributes, and the places
CASES: dict[str, tuple[Any, dict[str, Any], tuple[int, ...]]] = {
    "sizes": ([4, 11, 5], {"axis": 3}, (1, -1)),
    "sizes, axis from the end": ([6, 10], {"axis": -2, "keepdims": 0}, (0, 1)),
    "one size, which does not divide": (7, {"axis": 2}, (2, 0)),
    "single": (None, {"axis": 1}, (0, 2)),
    "single, from the end": (None, {"axis": 1}, (-1, -3)),
    "single, without its axis": (None, {"axis": 1, "keepdims": 0}, (2, -1)),
}


def listed(split: Any, attributes: dict[str, Any], places: tuple[int, ...]) -> Any:
    b = o.Build(18)
    given = [] if split is None else [b.weight(np.array(split, np.int64))]
    parts = b("SplitToSequence", b("Relu", "image"), *given, name="list", **attributes)
    taken = [b("SequenceAt", parts, b.weight(np.array(place, np.int64))) for place in places]
    for number, part in enumerate(taken):
        flat = b("Flatten", part, axis=1)
        b("ReduceSum", b("Mul", flat, flat), b.weight(np.array([1], np.int64)), keepdims=1, out=f"y{number}")
    b("Concat", "y0", "y1", axis=1, out="y")
    return b.model("y")


@pytest.mark.parametrize("name", CASES)
def test_parts(name: str) -> None:
    source = listed(*CASES[name])
    want = onnxruntime(source.SerializeToString(), {"image": IMAGES})["y"]
    graph = clean(source, None).graph
    assert not [node.op_type for node in graph if "Sequence" in node.op_type]
    again = ir.to_proto(ir.Model(graph, ir_version=10))
    close(onnxruntime(again.SerializeToString(), {"image": IMAGES})["y"], want)


def test_a_place_that_needs_the_number_of_parts_is_refused() -> None:
    with pytest.raises(GraphError, match="node 'list' is SplitToSequence: a graph of a bundle holds tensors alone"):
        clean(listed(7, {"axis": 2}, (-1, 0)), None)
