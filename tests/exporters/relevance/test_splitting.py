"""Relevance splitting by ratio: `splitting.py`, against its formula, and in a network where signed sums cancel."""

from __future__ import annotations

import numpy as np
import pytest
from xai_exporters.errors import RuleError

from ..vjp.harness import ints
from .running import Relevance, composite_of, distance
from .test_poolings import IMAGE, agree, draw, net, node

RATIO = composite_of(dict.fromkeys(("Add", "Sub", "Sum", "Mean"), "ratio"))
BLOCKS, WIDTH = 24, 12


@pytest.mark.parametrize(
    ("op", "shape"),
    [("Add", IMAGE), ("Add", ("N", 2, 1, 1)), ("Sub", IMAGE), ("Sub", ("N", 2, 1, 1)), ("Sum", IMAGE), ("Mean", IMAGE)],
    ids=str,
)
def test_formula(op: str, shape: tuple[int | str, ...]) -> None:
    """R |a| / (|a| + |b|), summed over the axes along which a was broadcast; where both are 0 it gives nothing."""
    sizes = [3, *(int(d) for d in shape[1:])]
    a, b, r = draw(*sizes), draw(3, 2, 3, 4, seed=1), draw(3, 2, 3, 4, seed=2)
    a[0, 0], b[0, 0] = 0, 0
    whole = np.abs(a) + np.abs(b)
    parts = [np.abs(v) / np.where(whole == 0, 1, whole) * r for v in (a, b)]
    parts[0] = parts[0] if shape == IMAGE else parts[0].sum(axis=(2, 3), keepdims=True)
    model = net(node(op, "a b"), inputs={"a": shape, "b": IMAGE})
    agree(Relevance(model, [RATIO], ["a", "b"]), {"a": a, "b": b, "r": r}, a=parts[0], b=parts[1])


def test_only_for_sums() -> None:
    model = net(node("ReduceMean", "x", keepdims=1))
    with pytest.raises(RuleError, match="the rule 'ratio' is for sums"):
        Relevance(model, [composite_of({"ReduceMean": "ratio"})])


def test_it_holds_where_signed_sums_cancel() -> None:
    """x + W x, 24 times: float32 decides the zero rule's relevance, which grows, and not that of split-residuals."""
    weights = {f"w{i}": (draw(WIDTH, WIDTH, seed=10 + i) / np.sqrt(WIDTH)).astype(np.float32) for i in range(BLOCKS)}
    nodes = []
    for i in range(BLOCKS):
        nodes += [node("MatMul", f"x{i or ''} w{i}", f"branch{i}"), node("Add", f"x{i or ''} branch{i}", f"x{i + 1}")]
    nodes.append(node("ReduceMean", f"x{BLOCKS} axes", keepdims=0))
    feeds = {"x": draw(3, 5, WIDTH, seed=1), "r": np.abs(draw(3, WIDTH, seed=2))}
    model = net(*nodes, inputs={"x": ("N", 5, WIDTH)}, axes=ints(1), **weights)
    bases = ("relevance-cam", "split-residuals")
    relevance = Relevance(model, [composite_of({}, base=base) for base in bases])
    exact = relevance.exact(feeds)
    errors = {}
    for k, base in enumerate(bases):
        name = f"{k}/x"
        errors[base] = max(distance(relevance.on(where, feeds)[name], exact[name]) for where in relevance.runtimes)
    assert errors["relevance-cam"] > 1e-4
    assert errors["split-residuals"] < 1e-5
