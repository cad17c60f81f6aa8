"""Cumulative sums: `cumulative.py`, against the matrix of the sum."""

import numpy as np

from .running import Relevance
from .test_poolings import IMAGE, agree, draw, net, node


def test_zero_rule() -> None:
    x, r = np.abs(draw(3, *IMAGE[1:])) + 0.1, draw(3, *IMAGE[1:], seed=1)  # type: ignore[arg-type]
    w = np.tril(np.ones((4, 4)))  # y = W x
    agree(Relevance(net(node("CumSum", "x axis"), axis=np.array(-1))), {"x": x, "r": r}, x=x * ((r / (x @ w.T)) @ w))
