"""What operators do with relevance by themselves, against formulas written out: arithmetic, gates, normalisations, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from xai_exporters.errors import RuleError

from ..vjp.harness import f32, ints, weights
from .running import NOTHING, Relevance, composite_of
from .test_poolings import IMAGE, Array, agree, draw, net, node

W = weights(5)
VECTOR: tuple[int | str, ...] = ("N", 5)


def half(r: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """R a / (a + b) and R b / (a + b)."""
    return r * a / (a + b), r * b / (a + b)


@pytest.mark.parametrize(
    "op", ["Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign",
           "Mish", "Gelu", "Erf", "Sqrt", "Exp", "Abs", "Neg", "Identity", "Dropout", "Shrink", "Sin", "Sinh", "Atan", "Asinh"],
)  # fmt: skip
def test_functions_of_one_tensor_pass(op: str) -> None:
    x, r = np.abs(draw(3, *IMAGE[1:])), draw(3, *IMAGE[1:], seed=1)  # type: ignore[arg-type]
    model = net(node(op, "x"))
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 20))
    agree(Relevance(model, [NOTHING, composite_of({}, base="relevance-cam")]), {"x": x, "r": r}, x=r)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"])
@pytest.mark.parametrize("first", [False, True])
def test_a_constant_takes_nothing(op: str, first: bool) -> None:
    """Whatever the rule of sums is, and where the constant is the larger part."""
    x, r = np.abs(draw(3, 2, 3, 4)) + 0.5, draw(3, 2, 3, 4, seed=1)
    model = net(node(op, "c x" if first else "x c"), c=f32([[[1.5]], [[2.0]]]))
    composites = [NOTHING, *(composite_of({op: "epsilon"}) for _ in range(op in ("Add", "Sub")))]
    agree(Relevance(model, composites), {"x": x, "r": r}, x=r)


def test_a_tensor_that_is_broadcast_gets_the_sum() -> None:
    """An input [N,2,1,1] with a constant [1,1,3,4]."""
    x, r = draw(3, 2, 1, 1), draw(3, 2, 3, 4, seed=1)
    for op in ("Add", "Mul"):
        model = net(node(op, "x c"), inputs={"x": ["N", 2, 1, 1]}, c=np.abs(W(1, 1, 3, 4)))
        agree(Relevance(model), {"x": x, "r": r}, x=r.sum(axis=(2, 3), keepdims=True))


def test_sums_share_by_sign() -> None:
    """R a / (a + b): negative parts and all; a difference is a sum of a and -b."""
    a, b, r = draw(3, 2, 3, 4), draw(3, 2, 3, 4, seed=1), draw(3, 2, 3, 4, seed=2)
    r = np.where(np.abs(a + b) > 0.1, r, 0) * (np.abs(a - b) > 0.1)
    inputs = {"x": IMAGE, "b": IMAGE}
    feeds = {"x": a, "b": b, "r": r}
    for op, of_b in (("Add", b), ("Sub", -b), ("Sum", b), ("Mean", b)):
        to_a, to_b = half(r, a, of_b)
        agree(Relevance(net(node(op, "x b"), inputs=inputs), targets=("x", "b")), feeds, x=to_a, b=to_b)


def test_sums_that_cancel_give_nothing() -> None:
    a = draw(3, 2, 3, 4)
    feeds = {"x": a, "b": -a, "r": np.ones_like(a)}
    zero = np.zeros_like(a)
    for op in ("Add", "Sum"):
        model = net(node(op, "x b"), inputs={"x": IMAGE, "b": IMAGE})
        agree(Relevance(model, targets=("x", "b")), feeds, x=zero, b=zero)


def test_a_tensor_used_twice_gets_both() -> None:
    """relu(x) + x: shares, and their sum."""
    x, r = draw(3, 2, 3, 4), draw(3, 2, 3, 4, seed=1)
    model = net(node("Relu", "x", "a"), node("Add", "a x"))
    total = np.maximum(x, 0) + x
    agree(Relevance(model), {"x": x, "r": r}, x=np.where(total == 0, 0, r))


def test_products_of_two_signals_give_half_to_each() -> None:
    a, b, r = draw(3, 2, 3, 4), draw(3, 2, 1, 1, seed=1), draw(3, 2, 3, 4, seed=2)
    inputs: dict[str, Any] = {"x": IMAGE, "b": ("N", 2, 1, 1)}
    want = {"x": r / 2, "b": r.sum(axis=(2, 3), keepdims=True) / 2}
    for order in ("x b", "b x"):
        model = net(node("Mul", order), inputs=inputs)
        agree(Relevance(model, targets=("x", "b")), {"x": a, "b": b, "r": r}, **want)


def test_squeeze_and_excitation() -> None:
    """x sigmoid(W gap(x)): half straight to x, half through the gate: zero rule at W, x+ at the pooling."""
    x, r, w = draw(3, 2, 3, 4), draw(3, 2, 3, 4, seed=1), W(2, 2, 1, 1)
    x = np.abs(x)
    model = net(
        node("GlobalAveragePool", "x", "gap"),
        node("Conv", "gap w", "z"),
        node("Sigmoid", "z", "gate"),
        node("Mul", "x gate"),
        w=w,
    )
    gap = x.mean(axis=(2, 3))
    matrix = w[:, :, 0, 0].astype(np.float64)
    at_gate = r.sum(axis=(2, 3)) / 2
    at_gap = gap * ((at_gate / (gap @ matrix.T)) @ matrix)
    want = r / 2 + x / x.sum(axis=(2, 3), keepdims=True) * at_gap[:, :, None, None]
    agree(Relevance(model), {"x": x, "r": r}, x=want)


def test_gates_of_the_tensor_itself() -> None:
    """x sigmoid(x), hard swish written out, Gelu written out (both forms): all relevance to x."""
    x, r = draw(3, 2, 3, 4), draw(3, 2, 3, 4, seed=1)
    constants = {
        "three": f32(3.0), "zero": f32(0.0), "six": f32(6.0), "root": f32(math.sqrt(2)), "one": f32(1.0), "half": f32(0.5),
        "cube": f32(3.0), "k": f32(0.044715), "s": f32(math.sqrt(2 / math.pi)),
    }  # fmt: skip
    nets = [
        [node("Sigmoid", "x", "g"), node("Mul", "x g")],
        [node("Sigmoid", "x", "g"), node("Mul", "g x")],
        [node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("Mul", "x b", "c"), node("Div", "c six")],
        [node("Add", "x three", "a"), node("Clip", "a zero six", "b"), node("Div", "b six", "c"), node("Mul", "x c")],
        [node("Softplus", "x", "a"), node("Tanh", "a", "b"), node("Mul", "x b")],
        [
            node("Div", "x root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"), node("Mul", "x c", "d"),
            node("Mul", "d half"),
        ],
        [
            node("Div", "x root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"), node("Mul", "x half", "d"),
            node("Mul", "d c"),
        ],
        [
            node("Pow", "x cube", "a"), node("Mul", "a k", "b"), node("Add", "x b", "c"), node("Mul", "c s", "d"),
            node("Tanh", "d", "e"), node("Add", "one e", "f"), node("Mul", "x f", "g"), node("Mul", "g half"),
        ],
        [node("Mul", "x x")],
    ]  # fmt: skip
    for nodes in nets:
        used = {name for n in nodes for name in n.input} & set(constants)
        agree(Relevance(net(*nodes, **{k: constants[k] for k in used})), {"x": x, "r": r}, x=r)


def test_quotients_give_all_to_the_numerator() -> None:
    a, b, r = draw(3, 2, 3, 4), np.abs(draw(3, 2, 1, 1, seed=1)) + 1, draw(3, 2, 3, 4, seed=2)
    model = net(node("Div", "x b"), inputs={"x": IMAGE, "b": ("N", 2, 1, 1)})
    agree(Relevance(model), {"x": a, "b": b, "r": r}, x=r)
    model = net(node("Relu", "x", "a"), node("Add", "a c", "b"), node("Div", "x b"), c=f32(1.0))
    agree(Relevance(model), {"x": a, "r": r}, x=r)
    model = net(node("Div", "c x"), inputs={"x": ("N", 2, 1, 1)}, c=W(2, 3, 4))
    agree(Relevance(model), {"x": b, "r": r}, x=r.sum(axis=(2, 3), keepdims=True))


def test_a_denominator_alone_gets_nothing() -> None:
    """The numerator is a signal, too, but leads elsewhere."""
    model = net(node("Div", "b x"), inputs={"x": IMAGE, "b": IMAGE})
    with pytest.raises(RuleError, match=r"Div \(node .*\) between them lets nothing through"):
        Relevance(model)


def layer_norm(how: str) -> onnx.ModelProto:
    """LayerNormalization as one operator, or as exporters write it out."""
    constants = {"axes": ints(-1), "two": f32(2.0), "eps": f32(1e-5), "g": W(5), "b": W(5), "one": f32(1.0)}
    start = [node("ReduceMean", "x axes", "m"), node("Sub", "x m", "d")]
    square = {"pow": node("Pow", "d two", "q"), "mul": node("Mul", "d d", "q")}["mul" if how == "mul" else "pow"]
    middle = [square, node("ReduceMean", "q axes", "v"), node("Add", "v eps", "e"), node("Sqrt", "e", "s")]
    divide = [node("Div", "d s", "n")]
    if how == "reciprocal":
        divide = [node("Reciprocal", "s", "i"), node("Mul", "d i", "n")]
    if how == "one-over":
        divide = [node("Div", "one s", "i"), node("Mul", "d i", "n")]
    nodes = [*start, *middle, *divide, node("Mul", "n g", "o"), node("Add", "o b")]
    if how == "node":
        nodes = [node("LayerNormalization", "x g b", axis=-1)]
    used = {name for n in nodes for name in n.input} & set(constants)
    return net(*nodes, inputs={"x": ("N", 3, 5)}, **{k: constants[k] for k in used})


@pytest.mark.parametrize("how", ["node", "pow", "mul", "reciprocal", "one-over"])
def test_layer_norm_passes(how: str) -> None:
    """The factor counts as constant, however it is written."""
    x, r = draw(3, 3, 5), draw(3, 3, 5, seed=1)
    agree(Relevance(layer_norm(how)), {"x": x, "r": r}, x=r)


FACTORS = {
    "gain in the factor": [node("Sqrt", "e", "s"), node("Reciprocal", "s", "i"), node("Mul", "i g", "k"), node("Mul", "d k")],
    "negative power": [node("Pow", "e minus", "i"), node("Mul", "i d", "n"), node("Mul", "n g")],
    "moved": [node("Sqrt", "e", "s"), node("Div", "g s", "i"), node("Expand", "i shape", "k"), node("Mul", "k d")],
    "keras": [
        node("Pow", "e minus", "i"), node("Mul", "i g", "k"), node("Mul", "x k", "n"), node("Mul", "m k", "o"),
        node("Sub", "g o", "p"), node("Add", "n p")],
    "keras, mean first": [
        node("Pow", "e minus", "i"), node("Mul", "i g", "k"), node("Mul", "x k", "n"), node("Neg", "m", "l"),
        node("Mul", "l k", "o"), node("Add", "o g", "p"), node("Add", "p n")],
    "keras, subtracted": [
        node("Pow", "e minus", "i"), node("Mul", "i g", "k"), node("Mul", "k x", "n"), node("Mul", "m k", "o"), node("Sub", "n o")],
}  # fmt: skip
"""How a normalisation goes on after its variance e, with d = x - m."""


@pytest.mark.parametrize("axes", [[2, 3], [1]])
@pytest.mark.parametrize("how", FACTORS)
def test_normalisations_pass_however_they_are_written(how: str, axes: list[int]) -> None:
    """Those over positions (InstanceNormalization) and over channels; also under composites that have a rule for sums."""
    x, r = draw(3, 2, 3, 4), draw(3, 2, 3, 4, seed=1)
    start = [node("ReduceMean", "x axes", "m"), node("Sub", "x m", "d"), node("Mul", "d d", "q")]
    start += [node("ReduceMean", "q axes", "v"), node("Add", "v eps", "e")]
    constants = {"axes": ints(*axes), "eps": f32(1e-3), "g": W(2, 1, 1), "minus": f32(-0.5), "shape": ints(1, 2, 3, 4)}
    used = {name for n in (*start, *FACTORS[how]) for name in n.input} & set(constants)
    model = net(*start, *FACTORS[how], **{k: constants[k] for k in used})
    composites = [NOTHING, *(composite_of({}, base=name) for name in ("epsilon-plus", "split-residuals"))]
    agree(Relevance(model, composites), {"x": x, "r": r}, x=r)


def test_what_is_no_normalisation_shares() -> None:
    """x k + (g - y k) with another tensor's mean is a sum; a positive power of a signal is a factor like others."""
    x, b, r = draw(3, 2, 3, 4), np.abs(draw(3, 2, 1, 1, seed=2)) + 0.5, draw(3, 2, 3, 4, seed=1)
    both = {"x": IMAGE, "b": ["N", 2, 1, 1]}
    power = net(node("Pow", "b two", "k"), node("Mul", "x k"), inputs=both, two=f32(2.0))
    want = {"x": r / 2, "b": (r / 2).sum(axis=(2, 3), keepdims=True)}
    agree(Relevance(power, targets=("x", "b")), {"x": x, "b": b, "r": r}, **want)
    nodes = [node("Mul", "x k", "n"), node("ReduceMean", "b axes", "m"), node("Mul", "m k", "o"), node("Sub", "n o")]
    other = net(*nodes, inputs=both, axes=ints(2, 3), k=f32(2.0))
    agree(Relevance(other), {"x": x, "b": b, "r": r}, x=r * x / (x - b))


@pytest.mark.parametrize("op", ["BatchNormalization", "InstanceNormalization", "LRN", "LpNormalization"])
def test_normalisations_pass(op: str) -> None:
    x, r = draw(3, 2, 3, 4), draw(3, 2, 3, 4, seed=1)
    constants = {"s": W(2), "b": W(2), "m": W(2), "v": np.abs(W(2))}
    names = {"BatchNormalization": "x s b m v", "InstanceNormalization": "x s b"}.get(op, "x")
    options: dict[str, Any] = {"size": 3} if op == "LRN" else {"axis": 1} if op == "LpNormalization" else {}
    used = {k: v for k, v in constants.items() if k in names.split()}
    agree(Relevance(net(node(op, names, **options), **used)), {"x": x, "r": r}, x=r)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_softmax(axis: int) -> None:
    """R_i = x_i (R_i - s_i sum R)."""
    x, r = draw(3, 4, 5), draw(3, 4, 5, seed=1)
    s = np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)
    model = net(node("Softmax", "x", axis=axis), inputs={"x": ("N", 4, 5)})
    agree(Relevance(model), {"x": x, "r": r}, x=x * (r - s * r.sum(axis=axis, keepdims=True)))


def attention_shares(a: Array, b: Array, r: Array) -> tuple[Array, Array]:
    """A B: each entry of a product's sum gets half its share for each of its factors, with an epsilon of 1e-6."""
    z = a @ b
    terms = a[..., :, :, None] * b[..., None, :, :]  # [..., i, k, j]
    shares = terms * (r / (z + 1e-6 * np.where(z < 0, -1, 1)) / 2)[..., :, None, :]
    return shares.sum(axis=-1), shares.sum(axis=-3)


@pytest.mark.parametrize("how", ["MatMul", "Einsum"])
def test_a_product_of_two_signals(how: str) -> None:
    a, b, r = draw(3, 2, 3, 4), draw(3, 2, 4, 5, seed=1), draw(3, 2, 3, 5, seed=2)
    r = np.where(np.abs(a @ b) > 0.3, r, 0)
    options = {"equation": "nhik,nhkj->nhij"} if how == "Einsum" else {}
    model = net(node(how, "x b", **options), inputs={"x": ("N", 2, 3, 4), "b": ("N", 2, 4, 5)})
    to_a, to_b = attention_shares(a, b, r)
    composites = [NOTHING, *(composite_of({}, base=base) for base in ("relevance-cam", "epsilon-plus"))]
    agree(Relevance(model, composites, ("x", "b")), {"x": a, "b": b, "r": r}, x=to_a, b=to_b)


def test_attention() -> None:
    """softmax(Q K^T / c) V, Q, K and V linear in x, the zero rule at each."""
    x, r = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    q, k, v = W(4, 4), W(4, 4), W(4, 4)
    model = net(
        node("MatMul", "x q", "Q"),
        node("MatMul", "x k", "K"),
        node("MatMul", "x v", "V"),
        node("Transpose", "K", "KT", perm=[0, 2, 1]),
        node("MatMul", "Q KT", "S"),
        node("Div", "S c", "T"),
        node("Softmax", "T", "A", axis=-1),
        node("MatMul", "A V"),
        inputs={"x": ("N", 3, 4)}, q=q, k=k, v=v, c=f32(2.0),
    )  # fmt: skip
    Q, K, V = (x @ m.astype(np.float64) for m in (q, k, v))
    scores = Q @ K.swapaxes(1, 2) / 2
    s = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    r = np.where(np.abs(s @ V) > 0.2, r, 0)
    to_s, to_v = attention_shares(s, V, r)
    to_scores = scores * (to_s - s * to_s.sum(axis=-1, keepdims=True))
    to_q, to_kt = attention_shares(Q, K.swapaxes(1, 2), to_scores)

    def linear(m: Array, z: Array, part: Array) -> Array:
        return np.asarray(x * ((part / z) @ m.astype(np.float64).T))

    want = linear(q, Q, to_q) + linear(k, K, to_kt.swapaxes(1, 2)) + linear(v, V, to_v)
    relevance = Relevance(model)
    got = relevance.exact({"x": x, "r": r})["0/x"]
    assert np.abs(got - want).max() <= 1e-9 * np.abs(want).max()
    for runtime in relevance.runtimes:  # the denominators of Q K^T and of its factors are small somewhere
        single = relevance.on(runtime, {"x": x, "r": r})["0/x"]
        assert np.abs(single - want).max() <= 1e-3 * np.abs(want).max()
