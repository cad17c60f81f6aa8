"""Sizes that depend on how much is found in an image are bounded: never below what ONNX Runtime gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

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
    nodes, known = list(made.graph.node), {"x", *(t.name for t in made.graph.initializer)}
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
