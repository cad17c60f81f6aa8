"""Sizes that depend on how much is found in an image are bounded: never below what ONNX Runtime gives."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from xai_deploy.format.guard.messages import parse
from xai_deploy.format.guard.shapes import Known, Run, Unknowable

START = (
    "g (float[12] x) => (float[n] y) <float half = {0.5}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, "
)
START += "int64[1] left = {-1}, int64[1] most = {30}, int64 start = {0}, int64 step = {1}> { m = Greater(x, half) z = NonZero(m) "
START += "s = Shape(z) n = Slice(s, one, two) "

BOUNDED = {
    "constant": "d = Add(n, two) y = ConstantOfShape(d)",
    "expand": "e = Expand(half, n) y = Identity(e)",
    "where": "k = Where(m1, two, n) y = Expand(half, k) m1 = Equal(n, two)",
    "range": "k = Squeeze(n, zero) r = Range(start, k, step) y = Cast<to = 1>(r)",
    "pad": "f = Gather(x, f0) d = Sub(most, n) p = Concat<axis = 0>(zero, d) y = Pad(f, p) f0 = Squeeze(z, zero)",
    "reshape": "f = Gather(x, f0) d = Concat<axis = 0>(n, one) r = Reshape(f, d) y = Squeeze(r, one) f0 = Squeeze(z, zero)",
    "rest": "f = Gather(x, f0) d = Concat<axis = 0>(n, left) r = Reshape(f, d) y = Squeeze(r, one) f0 = Squeeze(z, zero)",
    "product": "d = Mul(n, two) e = Div(d, two) k = Min(e, most) w = ReduceProd<keepdims = 1>(k) y = ConstantOfShape(w)",
}


def model(text: str) -> onnx.ModelProto:
    """The nodes in an order in which each comes after what it needs."""
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]> {START}{text} }}')
    nodes, known = list(made.graph.node), {"x", "", *(t.name for t in made.graph.initializer)}
    del made.graph.node[:]
    while nodes:
        ready = next(node for node in nodes if known.issuperset(node.input))
        nodes.remove(ready)
        known.update(ready.output)
        made.graph.node.append(ready)
    return made


def told(made: onnx.ModelProto) -> Known:
    data = made.SerializeToString()
    results = Run(parse(data), data).results({"x": Known((12,))})
    return {name: one for node, given in results for name, one in zip(node.outputs, given, strict=False)}["y"]


@pytest.mark.parametrize("name", BOUNDED)
def test_never_below(name: str) -> None:
    made = model(BOUNDED[name])
    known, session = told(made), onnxruntime.InferenceSession(made.SerializeToString())
    assert not known.exact
    sizes = [session.run(None, {"x": np.float32(np.arange(12) < k)})[0].shape for k in range(1, 13)]
    assert len(set(sizes)) > 1 or name == "pad"
    for size in sizes:
        assert len(size) == len(known.shape) == 1
        assert size[0] <= known.shape[0] <= 4 * 12


@pytest.mark.parametrize(
    "text",
    [
        "c = Cast<to = 7>(x) d = Slice(c, zero, one) y = ConstantOfShape(d)",  # a number that the image states
        "d = Sub(n, two) f = Gather(x, f0) y = Reshape(f, d) f0 = Squeeze(z, zero)",  # may be -1
        "d = Div(most, n) y = ConstantOfShape(d)",  # grows as n falls
    ],
)
def test_no_bound(text: str) -> None:
    with pytest.raises(Exception, match=r"not known before it runs|reshapes to") as error:
        told(model(text))
    assert type(error.value).__name__ in ("Unknowable", "Harmful")
    assert issubclass(Unknowable, Exception)


CONSTANT = "Constant<value_ints = [{}]>() "
BOMBS = {
    "a product leaves int64": "a = Mul(n, c) e = Div(a, d) y = ConstantOfShape(e) c = [4611686018427387904] d = [1099511627776]",
    "a product leaves int32": "i = Cast<to = 6>(n) c = Cast<to = 6>(c0) d = Cast<to = 6>(d0) a = Mul(i, c) e = Div(a, d) "
    "f = Cast<to = 7>(e) y = ConstantOfShape(f) c0 = [1073741824] d0 = [67108864]",
    "several sizes": "b = Mul(n, q) k = Concat<axis = 0>(b, c, c) p = ReduceProd<keepdims = 1>(k) e = Div(p, d) "
    "y = ConstantOfShape(e) q = [16] c = [1073741824] d = [1152921504606846976]",
    "uint8": "a = Mul(n, c) i = Cast<to = 2>(a) f = Cast<to = 7>(i) y = ConstantOfShape(f) c = [64]",
    "int8": "a = Mul(n, c) i = Cast<to = 3>(a) f = Cast<to = 7>(i) y = ConstantOfShape(f) c = [64]",
    "as many ones as were found": "k = ConstantOfShape<value = int64[1] {1}>(n) w = ReduceSum<keepdims = 1>(k) v = Sub(c, w) "
    "y = ConstantOfShape(v) c = [12]",
    "positions of a number": "h = ReduceMax<keepdims = 0>(x) k = NonZero(h) v = Shape(k) w = Slice(v, zero, one) "
    "y = ConstantOfShape(w)",
    "a ratio of sizes": "f = Gather(x, f0) f0 = Squeeze(z, zero) r = Reshape(f, rows) e = Expand(r, k) u = Resize"
    '<mode = "nearest", keep_aspect_ratio_policy = "not_smaller">(e,,, w) y = Reshape(u, left) '
    "rows = [-1, 1] k = [1, 3] w = [12, 3]",
    "axes of size 1": "f = Gather(x, f0) f0 = Squeeze(z, zero) r = Reshape(f, rows) e = Expand(r, w) u = Squeeze(e) "
    "v = Flatten(u) o = Expand(half, p) q = MatMul(v, o) y = Reshape(q, left) rows = [-1, 1] w = [1, 40] p = [1, 40]",
    "even parts": "v = Slice(x, zero, nine) m9 = Greater(v, half) z9 = NonZero(m9) f0 = Squeeze(z9, zero) f = Gather(v, f0) "
    "a, b, c, y = Split<axis = 0, num_outputs = 4>(f) nine = [9]",
    "powers": "p = Pow(two, e) f = Div(p, d) h = Neg(f) j = Div(h, d) y = ConstantOfShape(j) e = [64] d = [1073741824]",
    "the order of a sum": "s1 = ReduceSum<keepdims = 1>(v) i = Cast<to = 7>(s1) y = ConstantOfShape(i) "
    "v = Constant<value_floats = [1e30, 1.0, 1.0, 1.0, -1e30, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0]>()",
    "rounding": 'v = Slice(x, zero, ten) y = Resize<mode = "nearest">(v,, k) ten = [10] k = Constant<value_floats = [0.7]>()',
    "before the first": "y = Slice(x, a, b, zero, left) a = [-30] b = [-9000]",
}
"""Graphs whose y is larger than what is computed with numbers that wrap, in another order, or as Python counts."""
BOUNDS = {"positions of a number", "even parts", "rounding", "before the first"}
"""Those that are bounded; the others are refused."""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    """Refused, or bounded by at least what ONNX Runtime makes."""
    made = model(re.sub(r"= \[([-\d, ]+)\](?!>)", lambda found: "= " + CONSTANT.format(found[1]), BOMBS[name]))
    session, sizes = onnxruntime.InferenceSession(made.SerializeToString()), []
    for k in range(1, 13):
        with contextlib.suppress(errors.Fail, errors.InvalidArgument, errors.RuntimeException):  # a size does not fit
            sizes.append(session.run(None, {"x": np.float32(np.arange(12) < k)})[0].shape[0])
    assert max(sizes) > 0
    if name in BOUNDS:
        assert told(made).shape[0] >= max(sizes)
    else:
        with pytest.raises(Unknowable, match=r"not known before it runs|keeps the ratio of sizes|takes away the axes"):
            told(made)


def test_sizes_beyond_int64() -> None:
    """An empty tensor's sizes are read as int64: a true line instead of an overflow."""
    text = "e = ConstantOfShape(c) d = DepthToSpace<blocksize = 1048576>(e) v = Shape(d) y = ConstantOfShape(v) "
    made = model(text + "c = " + CONSTANT.format("0, 1, 4611686018427387904, 4611686018427387904"))
    with pytest.raises(Unknowable, match=r"node 'v' .* has attributes or inputs that do not go together"):
        told(made)
