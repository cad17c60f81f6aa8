"""If, Loop and Scan that do not depend on the image are resolved; the network gives the same on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from xai_exporters.errors import GraphError
from xai_exporters.passes.clean import clean

from .. import nets
from .. import onnx_nets as o
from ..checks import close, onnxruntime
from ..running import export_onnx

IMAGES = np.random.default_rng(5).standard_normal((3, *nets.SHAPE)).astype(np.float32)
node = helper.make_node


def info(name: str, kind: int = TensorProto.FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["n", o.CHANNELS] if shape is None else shape)


def constant(name: str, value: Any) -> onnx.NodeProto:
    return node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(value)))


def branches(b: o.Build, condition: str, x: str) -> str:
    """-x, or twice x with a weight of the branch's own."""
    then = helper.make_graph([node("Neg", [x], ["a"], name="neg")], "then", [], [info("a")])
    two = onnx.numpy_helper.from_array(np.array(2, np.float32), "two")
    other = helper.make_graph([node("Mul", [x, "two"], ["a"], name="neg")], "else", [], [info("a")], [two])
    return b("If", condition, name="choice", then_branch=then, else_branch=other)


def if_constant(b: o.Build) -> str:
    return branches(b, b.weight(np.array(False)), b.pooled(b.features()))


def if_of_a_shape(b: o.Build) -> str:
    """As torch's older exporter writes a squeeze: the condition compares a size with 1."""
    x = b.pooled(b.features())
    return branches(b, b("Equal", b("Shape", x, start=1, end=2), b.weight([o.CHANNELS])), x)


def nested(b: o.Build) -> str:
    """An If in an If, whose condition is the outer one's result."""
    x, yes = b.pooled(b.features()), b.weight(np.array(True))
    inner = [helper.make_graph([node(op, [x], ["c"])], op, [], [info("c")]) for op in ("Sigmoid", "Tanh")]
    then = helper.make_graph(
        [node("Not", [yes], ["no"]), node("If", ["no"], ["a"], then_branch=inner[0], else_branch=inner[1])],
        "t",
        [],
        [info("a")],
    )
    other = helper.make_graph([node("Identity", [x], ["a"])], "e", [], [info("a")])
    return b("If", yes, then_branch=then, else_branch=other)


def body(*nodes: onnx.NodeProto, stacked: bool = False) -> onnx.GraphProto:
    given = [info("i", TensorProto.INT64, []), info("going", TensorProto.BOOL, []), info("state")]
    outputs = [info("again", TensorProto.BOOL, []), info("next"), *([info("result")] if stacked else [])]
    return helper.make_graph(list(nodes), "body", given, outputs)


COUNTED = [
    node("Identity", ["going"], ["again"]),
    node("Cast", ["i"], ["number"], to=TensorProto.FLOAT),
    node("Add", ["state", "number"], ["sum"]),
    node("Sigmoid", ["sum"], ["next"]),
]


def loop(b: o.Build, trips: str, *nodes: onnx.NodeProto, condition: str = "") -> str:
    return b("Loop", trips, condition, b.pooled(b.features()), name="loop", body=body(*nodes))


def loop_with_results(b: o.Build) -> str:
    """Three results, stacked along a new first axis, and summed with the state."""
    nodes = [*COUNTED, node("Neg", ["next"], ["result"])]
    inputs = [b.weight(3), b.weight(np.array(True)), b.pooled(b.features())]
    b.nodes.append(node("Loop", inputs, ["state_out", "results"], name="loop", body=body(*nodes, stacked=True)))
    return b(
        "Add",
        "state_out",
        b("ReduceSum", b("Relu", b("Add", "results", b.weight(np.float32(1)))), b.weight([0]), keepdims=0),
    )


def while_loop(b: o.Build) -> str:
    """Goes on while 2 i < 5."""
    nodes = [
        constant("two", 2), constant("five", 5), node("Mul", ["i", "two"], ["double"]), node("Less", ["double", "five"], ["again"]),
        *COUNTED[1:],
    ]  # fmt: skip
    return loop(b, "", *nodes, condition=b.weight(np.array(True)))


def scan(b: o.Build, backward: int, axis: int = 2, out_axis: int = 1) -> str:
    """A running sum over the rows of the map, and its last state."""
    x = b("ReduceMean", b.features(), b.weight([3]), keepdims=0)  # [N,6,8]
    nodes = [node("Add", ["state", "row"], ["sum"]), node("Tanh", ["sum"], ["next"]), node("Neg", ["next"], ["out"])]
    inner = helper.make_graph(nodes, "body", [info("state"), info("row")], [info("next"), info("out")])
    start = b("ReduceMean", x, b.weight([2]), keepdims=0)
    further: dict[str, Any] = {
        "num_scan_inputs": 1, "scan_input_axes": [axis], "scan_output_axes": [out_axis], "scan_input_directions": [backward],
        "scan_output_directions": [backward],
    }  # fmt: skip
    b.nodes.append(node("Scan", [start, x], ["last", "all"], body=inner, **further))
    weights = b.weight(np.arange(8, dtype=np.float32).reshape(8, 1))
    return b("Add", "last", b("ReduceSum", b("Mul", "all", weights), b.weight([1]), keepdims=0))


def empty_loop(b: o.Build, trips: str) -> str:
    """Its body gives what it gets."""
    ends = [info("going", TensorProto.BOOL, []), info("state")]
    inner = helper.make_graph([], "body", [info("i", TensorProto.INT64, []), *ends], ends)
    return b("Loop", trips, b.weight(np.array(True)), b.pooled(b.features()), name="loop", body=inner)


CASES: dict[str, Callable[[o.Build], str]] = {
    "if constant": if_constant,
    "if of a shape": if_of_a_shape,
    "if in an if": nested,
    "loop": lambda b: loop(b, b.weight(4), *COUNTED),
    "loop counted by a shape": lambda b: loop(b, b("Shape", b.pooled("image"), start=1, end=2), *COUNTED),
    "loop without an iteration": lambda b: loop(b, b.weight(0), *COUNTED),
    "loop whose body has no nodes": lambda b: empty_loop(b, b.weight(3)),
    "loop with results": loop_with_results,
    "loop that ends itself": while_loop,
    "scan": lambda b: scan(b, 0),
    "scan backward": lambda b: scan(b, 1),
    "scan over the last axis": lambda b: scan(b, 0, -1, -2),
}


def network(case: Callable[[o.Build], str]) -> onnx.ModelProto:
    b = o.Build()
    return b.model(b.linear(case(b), out="scores"), ir_version=10)


@pytest.mark.parametrize("name", CASES)
def test_same_result(name: str) -> None:
    model = network(CASES[name])
    graph = clean(model, None)
    assert not {"If", "Loop", "Scan"} & {n.op_type for n in graph.graph}
    again = ir.to_proto(graph.model).SerializeToString()
    for images in (IMAGES[:1], IMAGES):
        want = onnxruntime(model.SerializeToString(), {"image": images})["scores"]
        close(onnxruntime(again, {"image": images})["scores"], want)


def test_export(tmp_path: Path) -> None:
    """The whole way, with the layer before the loop."""
    done = export_onnx(tmp_path, network(CASES["loop that ends itself"]), split="layer_out")
    assert {"gradient", "relevance"} <= done.manifest.graphs.keys()


def of_the_image(b: o.Build) -> str:
    return b(
        "Cast", b("Add", b("ReduceMax", b.pooled("image"), keepdims=0), b.weight(np.float32(2))), to=TensorProto.INT64
    )


LONG = [
    node("Identity", ["going"], ["again"]),
    *(node("Relu", ["state"], ["next" if i == 99 else f"r{i}"]) for i in range(100)),
]
BRIEF = [node("Identity", ["going"], ["again"]), node("Relu", ["state"], ["next"])]
GROWING = [node("Identity", ["going"], ["again"]), node("Concat", ["state", "state"], ["next"], axis=1)]
UNENDING = [
    node("Identity", ["going"], ["same"]),
    node("Not", ["same"], ["not"]),
    node("Or", ["same", "not"], ["again"]),
    BRIEF[1],
]
DEPENDENT = [node("ReduceMax", ["state"], ["top"], keepdims=0), constant("zero", np.float32(0)),
             node("Less", ["zero", "top"], ["again"]), BRIEF[1]]  # fmt: skip


def large_condition(b: o.Build) -> str:
    """An If in an If: the inner one's condition fills a tensor of 10^10 numbers, which no check of the outer graph sees."""
    x, yes, many = b.pooled(b.features()), b.weight(np.array(True)), b.weight([100_000, 100_000])
    inner = [helper.make_graph([node(op, [x], ["c"])], op, [], [info("c")]) for op in ("Sigmoid", "Tanh")]
    nodes = [
        node("Shape", [x], ["s"]), node("Mul", ["s", many], ["large"]), node("ConstantOfShape", ["large"], ["zeros"]),
        node("ReduceMax", ["zeros"], ["top"], keepdims=0), node("Cast", ["top"], ["no"], to=TensorProto.BOOL),
        node("If", ["no"], ["a"], then_branch=inner[0], else_branch=inner[1]),
    ]  # fmt: skip
    then = helper.make_graph(nodes, "t", [], [info("a")])
    return b(
        "If", yes, then_branch=then, else_branch=helper.make_graph([node("Relu", [x], ["a"])], "e", [], [info("a")])
    )


def growing_condition(b: o.Build) -> str:
    """A loop that goes on while its state, twice as large each time, has less than 10^15 numbers."""
    given = [info("i", TensorProto.INT64, []), info("going", TensorProto.BOOL, []), info("state", shape=["n", "c"])]
    ends = [info("again", TensorProto.BOOL, []), info("next", shape=["n", "c"])]
    nodes = [
        GROWING[1],
        node("Size", ["next"], ["count"]),
        constant("many", 10**15),
        node("Less", ["count", "many"], ["again"]),
    ]
    inner = helper.make_graph(nodes, "body", given, ends)
    return b("Loop", "", b.weight(np.array(True)), b.pooled(b.features()), name="loop", body=inner)


def if_of_the_batch(b: o.Build) -> str:
    """One image takes another branch than several."""
    return branches(b, b("Greater", b("Shape", "image", start=0, end=1), b.weight([1])), b.pooled(b.features()))


def two_ifs(b: o.Build) -> str:
    x, yes = b.pooled(b.features()), b.weight(np.array(True))
    for name in ("first", "second"):
        parts = [
            helper.make_graph([node(op, [x], [f"{name}/y"])], op, [], [info(f"{name}/y")]) for op in ("Neg", "Tanh")
        ]
        x = b("If", yes, name=name, then_branch=parts[0], else_branch=parts[1])
    return x


REFUSED: dict[str, tuple[Callable[[o.Build], str], str]] = {
    "a count of the image": (
        lambda b: loop(b, of_the_image(b), *COUNTED),
        "^node 'loop' is Loop: control flow can't be cut or differentiated, and this one depends",
    ),
    "a condition of the image": (
        lambda b: loop(b, b.weight(9), *DEPENDENT, condition=b.weight(np.array(True))),
        "^node 'loop' is Loop, whose condition depends on the image: it can't be unrolled",
    ),
    "a condition of the batch": (
        if_of_the_batch,
        "^node 'choice' is If: .* depends on the image or on how many there are;",
    ),
    "many operators": (two_ifs, "^has more than 1 If, Loop and Scan; export the network without them$"),
    "many nodes": (lambda b: loop(b, b.weight(300), *LONG), "unrolled, the graph has more than 20000 nodes"),
    "many iterations": (lambda b: loop(b, b.weight(10**15), *BRIEF), "unrolled, the graph has more than 20000 nodes"),
    "a body without nodes": (
        lambda b: empty_loop(b, b.weight(10**15)),
        "^node 'loop' is Loop: unrolled, the graph has more than 20000 nodes",
    ),
    "a body without nodes, without end": (
        lambda b: empty_loop(b, ""),
        "^node 'loop' is Loop: unrolled, the graph has more than 20000 nodes",
    ),
    "a large tensor for a condition": (large_condition, "the tensor .* would take .* far more than the file; refused"),
    "a condition on a state that grows": (
        growing_condition,
        "the tensor .* would take .* far more than the file; refused",
    ),
    "no end": (
        lambda b: loop(b, "", *UNENDING, condition=b.weight(np.array(True))),
        "whose condition still holds after 4 iterations: it can't be unrolled",
    ),
    "much memory": (
        lambda b: loop(b, b.weight(40), *GROWING),
        "with its control flow resolved the tensor .* far more than the file",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai_exporters.passes.expansion.constants_limit", lambda size: 1 << 22)
    monkeypatch.setattr("xai_exporters.passes.control_flow.COMPUTED", 4 if name == "no end" else 100)
    monkeypatch.setattr("xai_exporters.passes.control_flow.MOST", 1 if name == "many operators" else 100)
    case, message = REFUSED[name]
    with pytest.raises(GraphError, match=message):
        clean(network(case), None)
