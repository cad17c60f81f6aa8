"""Loops, iterators and branches: `bodies.py`, against OpenVINO's own run, before and after unrolling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from xai_exporters import Request
from xai_exporters.errors import GraphError, SourceError
from xai_exporters.passes.control_flow import resolve_control_flow
from xai_exporters.passes.network_inputs import build_in, constants_of
from xai_exporters.sources import load_source
from xai_exporters.sources.openvino_ir.translate import translate

from xai_deploy.foundation import runtimes

from .running import SHAPE, Build, agree, c, f32, ints, o, ov, saved

TRUE = np.array(True)


def while_(x: Any) -> Any:
    """TensorFlow's While: no trip count, a counter among the states; h = relu(w * h) + h as long as the counter is below 3."""
    node = o.loop(c(np.int64(-1)).output(0), c(TRUE).output(0))
    i, h, w = o.parameter([], np.int32), o.parameter([-1, *SHAPE], np.float32), o.parameter([2], np.int64)
    more = o.add(i, c(np.int32(1)))
    mean = o.reduce_mean(h, w, True)
    results = [o.result(v) for v in (more, o.add(o.relu(o.multiply(h, mean)), h), o.less(more, c(np.int32(3))))]
    node.set_function(ov.Model(results, [i, h, w], "body"))
    node.set_special_body_ports([-1, 2])
    node.set_merged_input(i, c(np.int32(0)).output(0), results[0].output(0))
    node.set_merged_input(h, x.output(0), results[1].output(0))
    node.set_invariant_input(w, ints(2, 3).output(0))
    return node.get_iter_value(results[1].output(0), -1)


def counted(x: Any, rounds: int = 3) -> Any:
    """Rounds of a Loop with its iteration's number; the second round's value, which is no state."""
    node = o.loop(c(np.int64(rounds)).output(0), c(TRUE).output(0))
    i, h = o.parameter([], np.int64), o.parameter([-1, *SHAPE], np.float32)
    product = o.multiply(h, o.add(o.convert(i, "f32"), f32(0.5)))
    results = [o.result(v) for v in (product, o.tanh(product), c(TRUE))]
    node.set_function(ov.Model(results, [i, h], "body"))
    node.set_special_body_ports([0, 2])
    node.set_merged_input(h, x.output(0), results[0].output(0))
    return node.get_iter_value(results[1].output(0), 1)


def rows(x: Any, backward: bool = False, step: int = 1) -> Any:
    """A recurrent network over rows: state = tanh(row + 0.5 state); all states, in the order of the image's rows."""
    node = o.tensor_iterator()
    row, state = o.parameter([-1, 3, step, 7], np.float32), o.parameter([-1, 3, 1, 7], np.float32)
    row_mean = o.reduce_mean(row, ints(2), True)
    result = o.result(o.tanh(o.add(row_mean, o.multiply(state, f32(0.5)))))
    node.set_body(ov.Model([result], [row, state], "body"))
    start, stride, end = (-1, -1, 0) if backward else (0, step, -1)
    node.set_sliced_input(row, x.output(0), start, stride, step, end, 2)
    zeros = o.multiply(o.reduce_mean(x, ints(2), True), f32(0))
    node.set_merged_input(state, zeros.output(0), result.output(0))
    start, stride, end = (-1, -1, 0) if backward else (0, 1, -1)
    return node.get_concatenated_slices(result.output(0), start, stride, 1, end, 2)


def branch(x: Any) -> Any:
    """The other branch of an If whose condition is fixed."""
    node = o.if_op(c(np.array(False)).output(0))
    for set_body, function in ((node.set_then_body, o.relu), (node.set_else_body, o.exp)):
        inner = o.parameter([-1, *SHAPE], np.float32)
        set_body(ov.Model([o.result(function(inner))], [inner], "body"))
    bodies = [node.get_function(i) for i in (0, 1)]
    node.set_input(x.output(0), *(body.get_parameters()[0] for body in bodies))
    return node.set_output(*(body.get_results()[0] for body in bodies))


CASES: dict[str, Build] = {
    "while": while_,
    "counted": counted,
    "rows": rows,
    "backward": lambda x: rows(x, backward=True),
    "five at once": lambda x: rows(x, step=5),
    "branch": branch,
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, CASES[name], -1)
    x = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    model = ir.from_proto(agree(path, x))
    assert resolve_control_flow(model) == (name != "branch")
    want = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]
    session = runtimes.onnxruntime().InferenceSession(ir.to_proto(model).SerializeToString())
    assert not {"Loop", "If"} & {node.op_type for node in model.graph}
    np.testing.assert_allclose(session.run(None, {"x": x})[0], want, rtol=0, atol=1e-5 * float(np.abs(want).max()))


def test_many_rounds(tmp_path: Path) -> None:
    """A condition that is always true is not computed, which would end at 100 rounds."""
    model = translate(ov.Core().read_model(saved(tmp_path, lambda x: counted(x, 150), 1)), 1 << 30)
    assert resolve_control_flow(model)
    assert sum(node.op_type == "Tanh" for node in model.graph) == 150


def test_steps_that_overlap(tmp_path: Path) -> None:
    def overlapping(x: Any) -> Any:
        node = o.tensor_iterator()
        row = o.parameter([-1, 3, 2, 7], np.float32)
        result = o.result(o.reduce_mean(row, ints(2), True))
        node.set_body(ov.Model([result], [row], "body"))
        node.set_sliced_input(row, x.output(0), 4, -2, 2, 0, 2)
        return node.get_iter_value(result.output(0), -1)

    with pytest.raises(GraphError, match=r"^the node '.*' \(TensorIterator\): takes 2 positions with a stride of -2"):
        translate(ov.Core().read_model(saved(tmp_path, overlapping, 1)), 1 << 30)


def phase(folder: Path, kind: Any) -> Path:
    """A network with a training phase as a further input, without dimensions or with none that the file states."""
    x = o.parameter([-1, *SHAPE], np.float32, name="x")
    training = o.parameter([] if kind == np.bool_ else ov.PartialShape.dynamic(), kind, name="training")
    condition = o.convert(training, "boolean") if kind != np.bool_ else training
    node = o.if_op(condition.output(0))
    for set_body, function in ((node.set_then_body, o.exp), (node.set_else_body, o.relu)):
        inner = o.parameter([-1, *SHAPE], np.float32)
        set_body(ov.Model([o.result(function(inner))], [inner], "body"))
    bodies = [node.get_function(i) for i in (0, 1)]
    node.set_input(x.output(0), *(body.get_parameters()[0] for body in bodies))
    y = node.set_output(*(body.get_results()[0] for body in bodies))
    ov.save_model(ov.Model([y], [x, training], "net"), folder / "net.xml")
    return folder / "net.xml"


@pytest.mark.parametrize("kind", [np.bool_, np.float32])
def test_a_phase_that_the_user_gives(kind: Any, tmp_path: Path) -> None:
    path, x = phase(tmp_path, kind), np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    if kind == np.bool_:
        message = r"\(If\): its condition depends on 'training'; give --input training=NUMBER, for a training phase 0$"
        with pytest.raises(SourceError, match=message):
            load_source(Request(path))
    for number, function in ((0, lambda a: np.maximum(a, 0)), (1, np.exp)):
        network = load_source(Request(path, input=(f"training={number}",)))
        assert network.reference is not None
        assert "If" not in {node.op_type for node in network.proto.graph.node}
        built = build_in(network.proto, constants_of(network.proto, Request(path, input=(f"training={number}",))))
        session = runtimes.onnxruntime().InferenceSession(built.SerializeToString())
        np.testing.assert_allclose(session.run(None, {"x": x})[0], function(x), rtol=0, atol=1e-5)
