"""Lists and optional tensors become the tensors; ONNX Runtime's run of the list is the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xai_exporters.errors import GraphError
from xai_exporters.passes.clean import clean

from .. import onnx_nets as o
from ..checks import close, onnxruntime

IMAGES = np.random.default_rng(0).standard_normal((3, 3, 16, 20)).astype(np.float32)


def at(b: o.Build, items: str, place: int) -> str:
    return b("SequenceAt", items, b.weight(np.array(place, np.int64)))


def inserted(b: o.Build, x: str, y: str) -> str:
    """[y, x, y], made item by item, and its last one taken out again."""
    items = b("SequenceInsert", b("SequenceEmpty"), x)
    items = b("SequenceInsert", items, y, b.weight(np.array(0, np.int64)))
    items = b("SequenceInsert", items, y, b.weight(np.array(-1, np.int64)))
    return b("SequenceErase", b("SequenceInsert", items, y))


def branch(b: o.Build, given: str, otherwise: str) -> str:
    """The tensor if there is one; each branch reads a value outside."""
    bodies = {}
    for name, kind, value in (("then_branch", "OptionalGetElement", given), ("else_branch", "Neg", otherwise)):
        node = onnx.helper.make_node(kind, [value], [f"{name}_result"])
        result = onnx.helper.make_tensor_value_info(f"{name}_result", onnx.TensorProto.FLOAT, None)
        bodies[name] = onnx.helper.make_graph([node], name, [], [result])
    return b("If", b("OptionalHasElement", given), **bodies)


CASES: dict[str, Callable[[o.Build, str, str], str]] = {
    "an item": lambda b, x, y: at(b, b("SequenceConstruct", x, y), 1),
    "an item from the end": lambda b, x, y: at(b, b("SequenceConstruct", x, y, y), -3),
    "inserted": lambda b, x, y: b("Concat", *(at(b, inserted(b, x, y), i) for i in range(3)), axis=1),
    "joined": lambda b, x, y: b("ConcatFromSequence", inserted(b, x, y), axis=1),
    "stacked": lambda b, x, y: b(
        "ReduceMax", b("ConcatFromSequence", inserted(b, x, y), axis=2, new_axis=1), b.weight(np.array([2])), keepdims=0
    ),
    "its length": lambda b, x, y: b("Mul", x, b("Cast", b("SequenceLength", inserted(b, x, y)), to=1)),
    "erased": lambda b, x, y: at(
        b, b("SequenceErase", b("SequenceConstruct", x, y), b.weight(np.array(0, np.int64))), 0
    ),
    "optional": lambda b, x, y: b("OptionalGetElement", b("Optional", y)),
    "in a branch": lambda b, x, y: branch(b, b("Optional", y), x),
    "of a tensor": lambda b, x, y: b("OptionalGetElement", y),
    "there is one": lambda b, x, y: b("Where", b("OptionalHasElement", b("Optional", x)), y, x),
}


def source_of(build: Callable[[o.Build, str, str], str]) -> Any:
    b = o.Build(18)
    x, y = b("Relu", "image"), b("Abs", b("Sub", "image", b.weight(np.float32(0.5))))
    flat = b("Flatten", build(b, x, y), axis=1)
    b("ReduceSum", b("Mul", flat, flat), b.weight(np.array([1], np.int64)), keepdims=1, out="scores")
    return b.model("scores")


@pytest.mark.parametrize("name", CASES)
def test_the_tensors_are_the_same(name: str) -> None:
    source = source_of(CASES[name])
    want = onnxruntime(source.SerializeToString(), {"image": IMAGES})["scores"]
    graph = clean(source, None).graph
    assert not [node.op_type for node in graph if node.op_type.startswith(("Sequence", "Optional", "ConcatFrom"))]
    again = ir.to_proto(ir.Model(graph, ir_version=10))
    close(onnxruntime(again.SerializeToString(), {"image": IMAGES})["scores"], want)


def test_a_computed_place_is_refused() -> None:
    def computed(b: o.Build, x: str, y: str) -> str:
        first = b("Greater", b("ReduceMax", "image", keepdims=0), b.weight(np.float32(9)))
        return b("SequenceAt", b("SequenceConstruct", x, y), b("Cast", first, to=7))

    with pytest.raises(GraphError, match="is SequenceConstruct: a graph of a bundle holds tensors alone"):
        clean(source_of(computed), None)
