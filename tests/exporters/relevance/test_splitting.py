"""Relevance splitting by ratio: `splitting.py`, against its formula, and in a network where signed sums cancel."""

from __future__ import annotations

import numpy as np
import pytest
from xai_exporters.errors import RuleError

from ..vjp.harness import ints
from .running import Relevance, composite_of, distance
from .test_poolings import IMAGE, agree, draw, net, node

RATIO = composite_of(dict.fromkeys(("Add", "Sub", "Sum", "Mean"), "ratio"))


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
    """An MLP mixer: the zero rule's relevance grows a hundredfold and float32 decides digits; not so that of split-residuals."""
    blocks, tokens, width = 12, 8, 16
    weights, nodes = {}, []
    for i in range(blocks):
        for name, size, seed in ((f"w{i}", width, 1005), (f"v{i}", width, 2005), (f"m{i}", tokens, 3005)):
            weights[name] = (draw(size, size, seed=seed + i) / np.sqrt(size)).astype(np.float32)
        nodes += [
            node("MatMul", f"x{i or ''} w{i}", f"h{i}"),
            node("Relu", f"h{i}", f"a{i}"),
            node("MatMul", f"a{i} v{i}", f"b{i}"),
            node("Add", f"x{i or ''} b{i}", f"y{i}"),
            node("MatMul", f"m{i} y{i}", f"t{i}"),
            node("Add", f"y{i} t{i}", f"x{i + 1}"),
        ]
    nodes.append(node("ReduceMean", f"x{blocks} axes", keepdims=0))
    feeds = {"x": draw(3, tokens, width, seed=1), "r": np.abs(draw(3, width, seed=2))}
    model = net(*nodes, inputs={"x": ("N", tokens, width)}, axes=ints(1), **weights)
    # in a mixer a classifier follows the average, and it shares by the positive values
    average = {"ReduceMean": "proportional"}
    relevance = Relevance(model, [composite_of(average, base=base) for base in ("relevance-cam", "split-residuals")])
    exact = relevance.exact(feeds)
    zero, ratio = (
        max(distance(relevance.on(where, feeds)[name], exact[name]) for where in relevance.runtimes)
        for name in ("0/x", "1/x")
    )
    assert np.abs(exact["0/x"]).max() > 100 * feeds["r"].max()
    assert np.abs(exact["1/x"]).max() < feeds["r"].max()
    assert ratio < 1e-6 < zero / 10
