"""OpenVINO's graphs share their weights: results against NumPy, memory, and what must not be shared."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from xai_deploy import Explainer
from xai_deploy.backends import Config, create
from xai_deploy.backends.openvino import OpenVinoSession
from xai_deploy.foundation.heap import give_back_freed

from .. import tiny
from ..conftest import Bundles

Array = NDArray[Any]


def graph(weight: Array, op: str = "MatMul") -> bytes:
    """x op weight, and the weight itself, which a graph may give, too."""
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    nodes = [helper.make_node(op, ["x", "w"], ["y"]), helper.make_node("Identity", ["w"], ["same"])]
    x = helper.make_tensor_value_info("x", kind, ["N", len(weight)])
    outputs = [helper.make_tensor_value_info(name, kind, None) for name in ("y", "same")]
    made = helper.make_graph(nodes, "net", [x], outputs, [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def open_all(*weights: Array, **config: Any) -> list[OpenVinoSession]:
    backend = create("openvino", Config(threads=1, **config))
    opened = [backend.open(graph(weight)) for weight in weights]
    assert all(isinstance(one, OpenVinoSession) for one in opened)
    return opened  # type: ignore[return-value]


def check(session: OpenVinoSession, weight: Array) -> None:
    """The product is that of NumPy in float64, and the weight is itself bit by bit."""
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, len(weight))).astype(weight.dtype)
        got = session.run({"x": x}, ["y", "same"])
        want = x.astype(np.float64) @ weight.astype(np.float64)
        np.testing.assert_allclose(np.asarray(got["y"]), want, rtol=0, atol=1e-5 * np.abs(want).max(), equal_nan=True)
        assert np.asarray(got["same"]).tobytes() == weight.tobytes()


def draw(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_same_weights_lie_there_once() -> None:
    first, second = open_all(draw(60, 70), draw(60, 70))
    assert first.weights[0] is second.weights[0]
    check(second, draw(60, 70))
    check(first, draw(60, 70))


def test_a_graph_outlives_those_that_it_shares_with() -> None:
    opened = open_all(*[draw(60, 70)] * 3)
    last = opened.pop()
    del opened
    last.weights = ()  # even what finds the tensor is gone; OpenVINO's own graph holds it
    gc.collect()
    check(last, draw(60, 70))


def change(position: int, value: float) -> Array:
    weight = draw(60, 70)
    weight.reshape(-1)[position] = value
    return weight


@pytest.mark.parametrize(
    "others",
    [
        (change(1, 5.0),),  # not among the numbers by which a tensor is found
        (change(-1, 5.0), change(-2, 5.0)),
        (change(1, 0.0), change(1, -0.0)),
        (draw(70, 60),),
        (np.ascontiguousarray(draw(60, 70).T).reshape(60, 70),),
        (draw(60, 70).astype(np.float16),),
    ],
    ids=["one-number", "two", "signed-zero", "shape", "order", "float16"],
)
def test_others_are_kept_apart(others: tuple[Array, ...]) -> None:
    weights = (draw(60, 70), *others)
    opened = open_all(*weights)
    assert len({id(session.weights[0]) for session in opened}) == len(opened)
    for session, weight in zip(opened, weights, strict=True):
        if weight.dtype == np.float32:
            check(session, weight)


def test_with_a_cache_nothing_changes(tmp_path: Path) -> None:
    [session] = open_all(draw(60, 70), cache=str(tmp_path))
    assert not session.weights
    check(session, draw(60, 70))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory() -> None:
    """Of three graphs of 32 MB each, the second and the third take next to nothing until they are compiled."""
    weight = draw(2048, 4096)
    backend, opened = create("openvino", Config(threads=1)), []
    taken = [_private()]
    for _ in range(3):
        opened.append(backend.open(graph(weight)))
        taken.append(_private())
    grown = np.diff(taken)
    assert grown[0] > 30
    assert max(grown[1:]) < 8
    del opened
    assert _private() < taken[1] - 25


def test_a_bundle_gives_the_same_maps(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the weights are so small that sharing them is not worth it, here for the test."""
    monkeypatch.setattr("xai_deploy.foundation.shared_constants._LARGE", 1)
    net = bundles("residual", gradients=True)
    for count in (1, 3):
        x = tiny.inputs("residual", count)
        shared, alone = Explainer(net.path, "openvino"), Explainer(net.path, "openvino")
        alone._backend._constants = None  # type: ignore[attr-defined]
        for method in ("reciprocam", "grad-cam", "gradient", "guided-backprop"):
            got, want = (e.explain(x, method).raw for e in (shared, alone))
            assert want.any()
            assert np.array_equal(got, want), method


def _private() -> float:
    """Memory that this process alone takes, in MB."""
    gc.collect()
    give_back_freed(1 << 30)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1000
