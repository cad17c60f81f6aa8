"""Conservation: without bias, epsilon and zero denominators relevance is neither made nor lost at any complete cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.utils
import pytest
from onnx.reference import ReferenceEvaluator
from xai_exporters.relevance.composite import Composite

from ..vjp.harness import f32, to_float64, weights
from ..vjp.references import REFERENCES
from .running import Relevance, composite_of
from .test_poolings import Array, draw, net, node

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def residual() -> onnx.ModelProto:
    """Conv-Relu-MaxPool, a residual block, a concatenation, global average pooling, two linear layers; no bias anywhere."""
    W = weights(7)
    return net(
        node("Conv", "x w1", "conv1", pads=[1] * 4),
        node("Relu", "conv1", "relu1"),
        node("MaxPool", "relu1", "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        node("Conv", "pool w2", "conv2", pads=[1] * 4),
        node("Relu", "conv2", "relu2"),
        node("Conv", "relu2 w3", "conv3", pads=[1] * 4, group=2),
        node("Add", "conv3 pool", "sum"),
        node("Relu", "sum", "relu3"),
        node("Conv", "relu3 w4", "left"),
        node("Conv", "relu3 w5", "right"),
        node("Concat", "left right", "both", axis=1),
        node("Relu", "both", "relu4"),
        node("AveragePool", "relu4", "averaged", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node("GlobalAveragePool", "averaged", "gap"),
        node("Flatten", "gap", "flat"),
        node("Gemm", "flat w6", "hidden"),
        node("Relu", "hidden", "relu5"),
        node("MatMul", "relu5 w7", "y"),
        inputs={"x": ("N", 3, 8, 10)},
        w1=W(4, 3, 3, 3), w2=W(6, 4, 3, 3), w3=W(4, 3, 3, 3) + f32(0.5), w4=W(3, 4, 1, 1), w5=W(2, 4, 1, 1),
        w6=W(5, 6), w7=W(6, 4),
    )  # fmt: skip


CUTS = [
    ["relu5"], ["hidden"], ["flat"], ["gap"], ["averaged"], ["relu4"], ["both"], ["left", "right"], ["relu3"], ["sum"],
    ["conv3", "pool"], ["relu2", "pool"], ["conv2", "pool"], ["relu1"], ["conv1"], ["x"],
]  # fmt: skip


@pytest.mark.parametrize("rule", ["z-plus", "zero", "gamma", "generalized-gamma", "epsilon"])
def test_every_cut_holds_the_same(rule: str) -> None:
    """(w-square and flat reach inputs of 0, of which the zero rule of sums keeps nothing; where nothing inhibits, alpha-beta
    gives alpha times R.)"""
    options: Any = {"rule": rule} | ({"epsilon": 0.0} if rule == "epsilon" else {})
    check(composite_of(dict.fromkeys(LAYERS, options)))


@pytest.mark.parametrize("base", ["relevance-cam"])
def test_built_in_composites_conserve(base: str) -> None:
    """The others have an epsilon of 1e-6 at every layer, which takes as much."""
    check(composite_of({}, base=base))


@pytest.mark.parametrize("base", ["epsilon-plus", "epsilon-gamma-box"])
def test_an_epsilon_takes_little(base: str) -> None:
    check(composite_of({}, base=base), 1e-3, 1e-3)


def check(composite: Composite, tolerance: float = 1e-5, exact: float = 1e-9) -> None:
    model = residual()
    x = np.abs(draw(3, 3, 8, 10))
    values = every_tensor(model, x)
    r = np.zeros_like(values["y"])
    r[np.arange(3), values["y"].argmax(axis=1)] = 1
    alone = [cut[0] for cut in CUTS if len(cut) == 1]
    for tensors in [alone, *(cut for cut in CUTS if len(cut) > 1)]:
        start = ["x"] if tensors is alone else tensors
        tail = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(start, ["y"])
        relevance = Relevance(tail, [composite], tensors)
        feeds = {name: values[name] for name in start} | {"r": r}
        for where in ("exact", *relevance.runtimes):
            got = relevance.exact(feeds) if where == "exact" else relevance.on(where, feeds)
            sums = {t: got[f"0/{t}"].reshape(3, -1).sum(axis=1, dtype=np.float64) for t in tensors}
            for cut in [[t] for t in alone] if tensors is alone else [tensors]:
                total = sum(sums[t] for t in cut)
                limit = exact if where == "exact" else tolerance
                assert np.abs(total - 1).max() <= limit, f"{where}, {cut}: {total}"


def every_tensor(model: onnx.ModelProto, x: Array) -> dict[str, Array]:
    """All that the network computes, in float64."""
    whole = to_float64(model)
    del whole.graph.output[:]
    names = ["x", *(name for n in model.graph.node for name in n.output)]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = ReferenceEvaluator(whole, new_ops=REFERENCES).run(None, {"x": x})
    return dict(zip(names, values, strict=True))
