"""No rule makes NaN or infinity of what networks hold: dead channels, empty maps, denominators of 0, tiny and huge values."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper
from xai_exporters.graph.measure import measure
from xai_exporters.relevance.composite import Composite

from ..vjp.harness import weights
from .layers import ANY_LAYER, NO_RESIZE, WITH_WEIGHTS
from .running import NOTHING, SESSIONS, Relevance, composite_of, relevance_model, several
from .test_poolings import Array, net, node

BASES = ("relevance-cam", "epsilon-plus", "epsilon-gamma-box", "epsilon-alpha2-beta1")
RULES = [*ANY_LAYER, *NO_RESIZE, *WITH_WEIGHTS]


def network(attention: bool = False) -> onnx.ModelProto:
    """Every kind of layer with a denominator, a dead input and a dead output channel in each weight, Q K^T and the rest."""
    W = weights(11)
    conv, again, dense, last = W(4, 3, 3, 3), W(4, 4, 3, 3), W(5, 4), W(5, 3)
    for w in (conv, again, dense.T, last.T):
        w[0] = 0
        w[:, 1] = 0
    nodes = [
        node("Conv", "x conv b", "a", pads=[1] * 4),
        node("Relu", "a", "c"),
        node("MaxPool", "c", "d", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "d again", "e", pads=[1] * 4),
        node("Add", "e d", "f"),
        node("Sub", "f d", "g"),
        node("AveragePool", "g", "h", kernel_shape=[2, 2]),
    ]
    nodes += [
        node("Reshape", "h tokens", "t"), node("Transpose", "t", "u", perm=[0, 2, 1]),
        node("MatMul", "u t", "s"), node("Softmax", "s", "p"), node("MatMul", "p u", "v"),
        node("ReduceMean", "v one", "i", keepdims=0),
    ] if attention else [node("GlobalAveragePool", "h", "j"), node("Flatten", "j", "i")]  # fmt: skip
    nodes += [
        node("Gemm", "i dense n", "k", transB=1),
        node("Sigmoid", "k", "l"),
        node("Mul", "k l", "m"),
        node("MatMul", "m last"),
    ]
    constants = {"conv": conv, "b": W(4) * 0, "again": again, "dense": dense, "n": W(5) * 0, "last": last}
    if attention:
        constants |= {"tokens": np.array([0, 4, -1]), "one": np.array([1])}
    return net(*nodes, inputs={"x": ("N", 3, 8, 8)}, **constants)


def images() -> dict[str, Array]:
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    half = np.where(np.arange(8) < 4, x, 0).astype(np.float32)
    return {
        "plain": x, "empty": x * 0, "half empty": half, "subnormal": np.sign(x) * np.float32(1e-40), "tiny": x * np.float32(1e-30),
        "small": x * np.float32(1e-12), "huge ratios": np.where(x > 1, x, x * np.float32(1e-25)).astype(np.float32),
        "large": x * np.float32(1e12), "negative": -np.abs(x), "one value": x * 0 + np.float32(0.5),
    }  # fmt: skip


def composites_and_names() -> tuple[list[Composite], list[str]]:
    kinds = ("Conv", "Gemm", "MatMul")
    made = [(str(dict(rule)), composite_of(dict.fromkeys(kinds, rule))) for rule in RULES]
    sums = ("Add", "Sub", "AveragePool", "GlobalAveragePool", "ReduceMean")
    made += [(f"sums {dict(rule)}", composite_of(dict.fromkeys(sums, rule))) for rule in [*ANY_LAYER, *NO_RESIZE]]
    made += [("MaxPool", composite_of({"MaxPool": "proportional"})), ("nothing", NOTHING)]
    made += [(base, composite_of({}, base=base)) for base in BASES]
    return [c for _, c in made], [name for name, _ in made]


@pytest.mark.parametrize("attention", [False, True])
def test_finite(attention: bool) -> None:
    """At the image, for every rule, with r = 1 at one logit and at a logit that is 0."""
    composites, names = composites_and_names()
    relevance = Relevance(network(attention), composites)
    wrong = []
    for what, x in images().items():
        for r in (np.eye(3)[:1], np.eye(3)[1:2], np.ones((1, 3)) * -1e-3):
            for runtime in relevance.runtimes:
                got = relevance.on(runtime, {"x": x, "r": r.astype(np.float32)})
                if not np.isfinite(got["y"]).all():
                    continue
                wrong += [(runtime, what, names[k]) for k in range(len(names)) if not np.isfinite(got[f"{k}/x"]).all()]
    assert not wrong, "\n".join(map(str, sorted(set(wrong))))


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in half precision."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*result.graph.input, *result.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return result


@pytest.mark.parametrize("attention", [False, True])
def test_half_precision(attention: bool) -> None:
    """Where 1e-6 and the smallest denominators are next to nothing, and R / 1e-4 is beyond the largest number."""
    composites, names = composites_and_names()
    forward = to_float16(network(attention))
    shapes = measure(ir.from_proto(forward))
    model = several([relevance_model(forward, c, shapes=shapes, name=f"{k}/x") for k, c in enumerate(composites)])
    wrong = []
    for runtime, make in SESSIONS.items():
        run = make(model)
        for what in ("plain", "empty", "half empty", "negative", "one value", "subnormal", "tiny"):
            for r in (np.eye(3)[:1], np.ones((1, 3)) * 10):
                x = images()[what]
                got = run({"x": x.astype(np.float16), "r": r.astype(np.float16)})
                wrong += [
                    (runtime, what, f"r {r.max()}", name)
                    for name, g in zip(names, got[1:], strict=True)
                    if not np.isfinite(g).all()
                ]
    assert not wrong, "\n".join(map(str, sorted(set(wrong))))
