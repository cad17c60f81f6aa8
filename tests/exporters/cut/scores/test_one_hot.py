"""One-hot vectors and votes in place of scores, written in many ways: all refused; scores that look alike are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters.errors import GraphError

from ... import nets
from ... import onnx_nets as o
from ...checks import source_reference
from ...probabilities import Ending, network, number, scores
from ...running import export_onnx, left_behind
from .test_probabilities import images

ZERO = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
EYE = np.eye(nets.CLASSES, dtype=np.float32)


def largest(b: o.Build, x: str) -> str:
    return b("ReduceMax", x, b.weight([1]), keepdims=1)


def best(b: o.Build, x: str, keepdims: int = 1) -> str:
    return b("ArgMax", x, axis=1, keepdims=keepdims)


def scattered(zeros: Any, op: str = "ScatterElements") -> Ending:
    def ending(b: o.Build, x: str) -> str:
        x = scores(b, x)
        ones = b("Expand", number(b, 1), b("Shape", best(b, x)))
        return b(op, zeros(b, x), best(b, x), ones, axis=1)

    return ending


def scattered_by_position(b: o.Build, x: str) -> str:
    x = scores(b, x)
    count = b("Shape", x, start=0, end=1)
    rows = b("Range", b.weight(np.array(0)), b("Squeeze", count), b.weight(np.array(1)))
    positions = b("Concat", b("Reshape", rows, b.weight([-1, 1])), best(b, x), axis=1)
    return b("ScatterND", b("Sub", x, x), positions, b("Expand", number(b, 1), count))


def best_of(b: o.Build, x: str) -> str:
    b("TopK", scores(b, x), b.weight([1]), axis=1, out="value")
    b.nodes[-1].output.append("index")
    return b("Gather", b.weight(EYE), b("Squeeze", "index", b.weight([1])))


def behind(b: o.Build, x: str, power: float) -> str:
    """How far each class is behind the best, times a large number: 0 for the best."""
    x = scores(b, x)
    return b("Mul", b("Sub", largest(b, x), x), number(b, power))


def one_hot(b: o.Build, x: str) -> str:
    values = b.weight(np.array([0, 1], np.float32))
    return b("OneHot", best(b, scores(b, x), 0), b.weight(np.array(nets.CLASSES)), values, axis=1)


DECISIONS: dict[str, Ending] = {
    "onto y - y": scattered(lambda b, x: b("Sub", x, x)),
    "onto 0 y": scattered(lambda b, x: b("Mul", x, number(b, 0))),
    "onto zeros": scattered(lambda b, x: b("ConstantOfShape", b("Shape", x), value=ZERO)),
    "onto zeros expanded": scattered(lambda b, x: b("Expand", number(b, 0), b("Shape", x))),
    "onto zeros, older": scattered(lambda b, x: b("Sub", b("Relu", x), b("Relu", x))),
    "by position": scattered_by_position,
    "equal to the largest": lambda b, x: b("Cast", b("Equal", y := scores(b, x), largest(b, y)), to=1),
    "not below the largest": lambda b, x: b("Cast", b("Not", b("Less", y := scores(b, x), largest(b, y))), to=1),
    "where": lambda b, x: b("Where", b("GreaterOrEqual", y := scores(b, x), largest(b, y)), number(b, 1), number(b, 0)),
    "where, of y": lambda b, x: b(
        "Where", b("GreaterOrEqual", y := scores(b, x), largest(b, y)), b("Div", y, y), b("Sub", y, y)
    ),
    "equal to the number": lambda b, x: b("Cast", b("Equal", best(b, scores(b, x)), b.weight([[0, 1, 2, 3, 4]])), to=1),
    "row of eye": lambda b, x: b("Gather", b.weight(EYE), best(b, scores(b, x), 0)),
    "row of eye, by TopK": best_of,
    "OneHot times eye": lambda b, x: b("MatMul", one_hot(b, x), b.weight(EYE)),
    "OneHot in percent": lambda b, x: b("Mul", one_hot(b, x), number(b, 100)),
    "1 + sign": lambda b, x: b("Sub", number(b, 1), b("Sign", behind(b, x, 1))),
    "steep clip": lambda b, x: b("Clip", b("Sub", number(b, 1), behind(b, x, 1e9)), number(b, 0), number(b, 1)),
    "steep tanh": lambda b, x: b("Sub", number(b, 1), b("Tanh", behind(b, x, 1e20))),
    "steep minimum": lambda b, x: b("Sub", number(b, 1), b("Min", behind(b, x, 1e20), number(b, 1))),
    "steep exp": lambda b, x: b("Exp", b("Neg", behind(b, x, 1e9))),
    "power": lambda b, x: b("Pow", b("Div", y := b("Softmax", scores(b, x)), largest(b, y)), number(b, 1e9)),
    "labels, steeply": lambda b, x: b("Tanh", b("Mul", scores(b, x), number(b, 1e12))),
    "votes": lambda b, x: b("Div", b("Sum", *(b("Hardmax", scores(b, x)) for _ in range(3))), number(b, 3)),
    "mean of votes": lambda b, x: b("Mean", *(b("Hardmax", scores(b, x)) for _ in range(3))),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_refused(tmp_path: Path, name: str) -> None:
    model = network(DECISIONS[name])
    values = np.unique(np.round(source_reference(model, by_runtime=True)(images())["result"].astype(np.float64), 5))
    assert len(values) <= 4  # it is one
    with pytest.raises(
        GraphError, match=r"holds (decisions|a list|only) .*; export the network up to its scores"
    ) as error:
        export_onnx(tmp_path, model)
    assert "the number of the class" not in str(error.value)
    assert left_behind(tmp_path) == []


SCORES: dict[str, Ending] = {
    "a steep softmax": lambda b, x: b("Softmax", b("Mul", scores(b, x), number(b, 1e6))),
    "not quite steep": lambda b, x: b("Exp", b("Neg", behind(b, x, 20))),
    "binary features": lambda b, x: scores(b, b("Sign", b("Sub", x, number(b, 0.1)))),
    "chosen by the network": lambda b, x: b(
        "Where", b("Greater", y := scores(b, x), number(b, 0)), y, b("Mul", y, number(b, 0.1))
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_taken(tmp_path: Path, name: str) -> None:
    assert export_onnx(tmp_path, network(SCORES[name]), roles=("tail",), split="layer").manifest.classes == nets.CLASSES
