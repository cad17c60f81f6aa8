"""Operators that move values: relevance moves back with them, against numpy on the positions themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from ..vjp.harness import f32, ints
from .running import Relevance
from .test_poolings import IMAGE, Array, agree, draw, net, node

MOVES: dict[str, tuple[onnx.NodeProto, dict[str, Array], Callable[[Array], Array]]] = {
    "Reshape": (node("Reshape", "x to"), {"to": ints(0, 6, 4)}, lambda x: x.reshape(-1, 6, 4)),
    "Flatten": (node("Flatten", "x"), {}, lambda x: x.reshape(len(x), -1)),
    "Unsqueeze": (node("Unsqueeze", "x at"), {"at": ints(1)}, lambda x: x[:, None]),
    "Transpose": (node("Transpose", "x", perm=[0, 2, 3, 1]), {}, lambda x: x.transpose(0, 2, 3, 1)),
    "Slice": (
        node("Slice", "x start end axis step"),
        {"start": ints(2), "end": ints(-100), "axis": ints(2), "step": ints(-2)},
        lambda x: x[:, :, ::-2],
    ),
    "Pad": (node("Pad", "x pads"), {"pads": ints(0, 0, 1, 2, 0, 0, 0, 1)},
            lambda x: np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 1)])),
    "Tile": (node("Tile", "x by"), {"by": ints(1, 2, 1, 3)}, lambda x: np.tile(x, (1, 2, 1, 3))),
    "Gather": (node("Gather", "x at", axis=3), {"at": ints(3, 0, 3)}, lambda x: x[..., [3, 0, 3]]),
    "DepthToSpace": (node("DepthToSpace", "x", blocksize=1), {}, lambda x: x),
    "Expand": (node("Expand", "x to"), {"to": ints(2, 1, 1, 1, 1)}, lambda x: np.stack([x, x])),
    "Concat": (node("Concat", "x c x", axis=1), {"c": f32(*[[[[1] * 4] * 3]] * 3)},
               lambda x: np.concatenate([x, np.zeros((len(x), 1, 3, 4)), x], axis=1)),
}  # fmt: skip


@pytest.mark.parametrize("op", MOVES)
def test_moves(op: str) -> None:
    """R at an input is the sum of R at every place to which it went; what stands in padding is lost."""
    step, constants, move = MOVES[op]
    x = draw(3, 2, 3, 4)
    places = move(np.arange(1, x.size + 1).reshape(x.shape).astype(np.float64)).astype(int)  # 0: from nowhere
    r = draw(*places.shape, seed=1)
    want = np.bincount(places.ravel(), r.ravel(), x.size + 1)[1:].reshape(x.shape)
    batch = 3 if op in ("Concat", "Expand") else "N"  # theirs is fixed by a constant here
    agree(Relevance(net(step, inputs={"x": [batch, 2, 3, 4]}, **constants)), {"x": x, "r": r}, x=want)


def test_split() -> None:
    """Of two parts one is used."""
    x, r = draw(3, 2, 3, 4), draw(3, 2, 3, 1, seed=1)
    model = net(node("Split", "x sizes", "a y", axis=3), sizes=ints(3, 1))
    want = np.zeros_like(x)
    want[..., 3:] = r
    agree(Relevance(model), {"x": x, "r": r}, x=want)


def test_where() -> None:
    x, b, r = draw(3, 2, 3, 4), draw(3, 2, 1, 1, seed=1), draw(3, 2, 3, 4, seed=2)
    mask = np.array([[True, False, True, False]] * 3)
    model = net(node("Where", "m x b"), inputs={"x": IMAGE, "b": ("N", 2, 1, 1)}, m=mask)
    to_b = np.where(mask, 0, r).sum(axis=(2, 3), keepdims=True)
    agree(Relevance(model, targets=("x", "b")), {"x": x, "b": b, "r": r}, x=np.where(mask, r, 0), b=to_b)


def test_concatenated_signals() -> None:
    a, b, r = draw(3, 2, 3, 4), draw(3, 1, 3, 4, seed=1), draw(3, 3, 3, 4, seed=2)
    model = net(node("Concat", "x b", axis=1), inputs={"x": IMAGE, "b": ("N", 1, 3, 4)})
    agree(Relevance(model, targets=("x", "b")), {"x": a, "b": b, "r": r}, x=r[:, :2], b=r[:, 2:])
