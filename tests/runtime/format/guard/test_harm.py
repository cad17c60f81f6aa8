"""Nodes on which a runtime was seen to die, and the same nodes without the fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from xai_deploy.errors import UnsafeGraphError
from xai_deploy.format.guard import check_graph

from .graphs import IMAGE, floats, ints, model, n

X = np.arange(12, dtype=np.float32).reshape(3, 4)
IMG = np.ones((1, 1, 4, 4), np.float32)
LOW = np.iinfo(np.int64).min


def beside(node: onnx.NodeProto, **constants: Any) -> bytes:
    nodes = [node, n("Cast", "r", "f", to=TensorProto.FLOAT), n("ReduceSum", "f", "s"), n("Add", "x s")]
    return bytes(model(nodes, constants, opset=21).SerializeToString())


def lstm(hidden: int) -> dict[str, Any]:
    shapes = {"a": (2, 1, 3), "w": (1, 8, 3), "h": (1, 8, hidden)}
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


def clipped(low: int, high: int, floats: bool = False) -> bytes:
    """70 000 positions that the guard does not compute, moved after a Clip. A Clip of floats lets NaN pass."""
    ends = [np.array(end, np.float32 if floats else np.int64) for end in (low, high)]
    nodes = [
        n("Clip", "f l h", "c") if floats else n("Clip", "i l h", "c"),
        n("Cast", "c", "d", to=TensorProto.INT64) if floats else n("Identity", "c", "d"),
        n("Transpose", "d", "t", perm=[1, 0]),
        n("ScatterElements", "a t u", "r", axis=1),
        n("ReduceSum", "r", "s"),
        n("Add", "x s"),
    ]
    many = np.zeros((70_000, 1))
    constants: dict[str, Any] = {"f": many.astype(np.float32)} if floats else {"i": many.astype(np.int64)}
    constants |= {"l": ends[0], "h": ends[1], "a": np.ones((1, 12), np.float32), "u": np.zeros((1, 70_000), np.float32)}
    return bytes(model(nodes, constants, opset=21).SerializeToString())


def grid(rows: int, columns: int, turned: bool = False, last: str = "Identity") -> bytes:
    """The 80 000 positions of a grid, its rows and columns side by side, as torch writes an assignment to a slice."""
    nodes = [
        n("Expand", "a0 size", "b0"), n("Unsqueeze", "b0 end", "c0"),
        n("Expand", "a1 size", "b1"), n("Unsqueeze", "b1 end", "c1"),
        n("Concat", "c1 c0" if turned else "c0 c1", "i", axis=-1),
        n(last, "i", "j"),
        n("ScatterND", "z j u", "r"),
        n("ReduceSum", "r", "s"),
        n("Add", "x s"),
    ]  # fmt: skip
    constants: dict[str, Any] = {
        "a0": np.arange(rows).reshape(rows, 1), "a1": np.arange(columns), "size": np.array([rows, columns]),
        "end": np.array([-1]), "z": np.zeros((400, 200), np.float32), "u": np.zeros((rows, columns), np.float32),
    }  # fmt: skip
    return bytes(model(nodes, constants, opset=21).SerializeToString())


HARM: dict[str, tuple[bytes, bytes, str]] = {
    "overflow": (
        beside(n("Div", "a b", "r"), a=ints(LOW), b=ints(-1)),
        beside(n("Div", "a b", "r"), a=ints(LOW), b=ints(2)),
        "divides integers by 0, by -1",
    ),
    "by zero": (
        beside(n("Mod", "a b", "r"), a=ints(5, 5), b=ints(2, 0)),
        beside(n("Mod", "a b", "r"), a=ints(5, 5), b=ints(2, 3)),
        "divides integers by 0",
    ),
    "by what is not known": (
        beside(n("Div", "a b", "r"), a=ints(5), b=np.zeros(70_000, np.int64)),
        beside(n("Div", "a b", "r"), a=floats(5), b=floats(0)),
        "by a value that is not known",
    ),
    "GatherND": (
        beside(n("GatherND", "a i", "r"), a=X, i=ints(0, 4).reshape(1, 2)),
        beside(n("GatherND", "a i", "r"), a=X, i=ints(-3, 3).reshape(1, 2)),
        r"positions outside of \[3, 4\]",
    ),
    "GatherND, many": (
        beside(n("GatherND", "a i", "r"), a=X, i=np.full((5000, 2), 10**9)),
        beside(n("GatherND", "a i", "r"), a=X, i=np.full((5000, 2), 2)),
        "positions outside of",
    ),
    "GatherElements": (
        beside(n("GatherElements", "a i", "r"), a=X, i=ints(-4).reshape(1, 1)),
        beside(n("GatherElements", "a i", "r"), a=X, i=ints(-3).reshape(1, 1)),
        "positions outside of 3",
    ),
    "ScatterND": (
        beside(n("ScatterND", "a i u", "r"), a=X, i=ints(3, 0).reshape(1, 2), u=floats(1)),
        beside(n("ScatterND", "a i u", "r"), a=X, i=ints(2, 0).reshape(1, 2), u=floats(1)),
        r"positions outside of \[3, 4\]",
    ),
    "ScatterND, too many": (
        beside(n("ScatterND", "a i u", "r"), a=X, i=np.zeros((40_000, 2), np.int64), u=np.zeros(40_000, np.float32)),
        beside(n("ScatterND", "a i u", "r"), a=X, i=np.zeros((30_000, 2), np.int64), u=np.zeros(30_000, np.float32)),
        r"too many constant positions to check \(compute the file's constants first, as torch.onnx.export does with dynamo=True\)",
    ),
    "ScatterND, a grid": (grid(401, 200), grid(400, 200), "too many constant positions to check"),
    "ScatterND, a grid turned": (grid(400, 200, turned=True), grid(400, 200), "too many constant positions to check"),
    "ScatterND, a grid of columns": (grid(400, 201), grid(400, 200), "too many constant positions to check"),
    "ScatterND, a grid computed": (grid(400, 200, last="Neg"), grid(400, 200), "too many constant positions to check"),
    "ScatterElements": (
        beside(n("ScatterElements", "a i u", "r", axis=1), a=X, i=ints(4).reshape(1, 1), u=floats(1).reshape(1, 1)),
        beside(n("ScatterElements", "a i u", "r", axis=1), a=X, i=ints(3).reshape(1, 1), u=floats(1).reshape(1, 1)),
        "positions outside of 4",
    ),
    "ScatterElements, too many but clipped": (
        clipped(0, 12),
        clipped(-12, 11),
        "too many constant positions to check",
    ),
    "ScatterElements, clipped as floats": (
        clipped(0, 11, floats=True),
        clipped(0, 11),
        "too many constant positions to check",
    ),
    "TopK": (
        beside(n("TopK", "a k", "r q"), a=X, k=ints(5)),
        beside(n("TopK", "a k", "r q"), a=X, k=ints(4)),
        "takes the best 5 of 4",
    ),
    "RoiAlign": (
        beside(n("RoiAlign", "a b i", "r", sampling_ratio=10**5), a=IMG, b=np.ones((1, 4), np.float32), i=ints(0)),
        beside(n("RoiAlign", "a b i", "r", sampling_ratio=2), a=IMG, b=np.ones((1, 4), np.float32), i=ints(0)),
        "takes 100000 samples",
    ),
    "RoiAlign by its length": (
        beside(n("RoiAlign", "a b i", "r", output_width=2), a=IMG, b=np.array([[0, 0, 131, 3]], np.float32), i=ints(0)),
        beside(n("RoiAlign", "a b i", "r", output_width=2), a=IMG, b=np.array([[9, 0, 0, 3]], np.float32), i=ints(0)),
        "takes 66 samples",
    ),
    "RoiAlign of unknown length": (
        beside(n("RoiAlign", "a b i", "r"), a=IMG, b=np.array([[0, 0, np.nan, 3]], np.float32), i=ints(0)),
        beside(n("RoiAlign", "a b i", "r"), a=IMG, b=np.array([[0, 0, 5, 3]], np.float32), i=ints(0)),
        r"as many samples as its regions are long \(sampling_ratio 0\), and these are not known before it runs; 1 to 64",
    ),
    "MaxPool": (
        beside(n("MaxPool", "a", "r", kernel_shape=[30000, 30000], pads=[29999] * 4, strides=[20000] * 2), a=IMG),
        beside(n("MaxPool", "a", "r", kernel_shape=[3, 3]), a=IMG),
        r"a window of \[30000, 30000\]",
    ),
    "LSTM": (
        beside(n("LSTM", "a w h", "r", hidden_size=1000), **lstm(2)),
        beside(n("LSTM", "a w h", "r", hidden_size=2), **lstm(2)),
        "for a hidden size of 1000",
    ),
    "CumSum": (
        beside(n("CumSum", "a i", "r"), a=X, i=ints(50)),
        beside(n("CumSum", "a i", "r"), a=X, i=ints(-1)),
        "has the axis 50 of 2",
    ),
    "Unique": (
        beside(n("Unique", "a", "r", axis=99), a=X),
        beside(n("Unique", "a", "r", axis=1), a=X),
        "has the axis 99 of 2",
    ),
    "DFT": (
        beside(n("DFT", "a l", "r"), a=np.ones((1, 8, 1), np.float32), l=np.int64(0)),
        beside(n("DFT", "a l", "r"), a=np.ones((1, 8, 1), np.float32), l=np.int64(4)),
        "a length below 1",
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm(harm: str) -> None:
    bad, good, told = HARM[harm]
    check_graph(good, "x", IMAGE)
    with pytest.raises(UnsafeGraphError, match=rf"^x: node .*{told}"):
        check_graph(bad, "x", IMAGE)


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_whole_numbers_are_told_from_floats(op: str) -> None:
    """A float divided by what the image decides is fine; a whole number, wherever it comes from, is not."""
    check_graph(model([n(op, "x x", fmod=1) if op == "Mod" else n(op, "x x")]).SerializeToString(), "x", IMAGE)
    for make in (
        [n("Cast", "x", "i", to=TensorProto.INT32)],
        [n("ArgMax", "x", "i")],
        [n("TopK", "x k", "q i", axis=1)],
    ):
        nodes = [*make, n("Transpose", "i", "j"), n(op, "i j", "y")]
        with pytest.raises(UnsafeGraphError, match="divides integers"):
            check_graph(model(nodes, {"k": ints(1)}).SerializeToString(), "x", IMAGE)
