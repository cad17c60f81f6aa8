"""TopK of at most k of the rows that were found: the same as ONNX Runtime's own, for any number of rows."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from xai_exporters.passes.bounded_choices import bound_choices
from xai_exporters.passes.clean import clean

TEXT = """<ir_version: 10, opset_import: ["": 18]> g (float[12] x) => (float[k] y, int64[k] places)
<float half = {0.5}, int64[1] zero = {0}, int64[1] five = {5}> {
m = Greater(x, half) z = NonZero(m) f = Squeeze(z, zero) s = Gather(x, f) n = Shape(s) MINIMUM
y, places = TopK<LARGEST>(s, k) }"""


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    "minimum", ["k = Min(n, five)", "c = Concat<axis = 0>(five, n) k = ReduceMin<keepdims = 1>(c)"]
)
def test_the_same(minimum: str, largest: int) -> None:
    source = onnx.parser.parse_model(TEXT.replace("MINIMUM", minimum).replace("LARGEST", f"largest = {largest}"))
    model = ir.from_proto(source)
    assert bound_choices(model)
    [node] = [node for node in model.graph if node.op_type == "TopK"]
    assert ir.convenience.get_const_tensor(node.inputs[1]) is not None  # type: ignore[arg-type]
    before, after = (onnxruntime.InferenceSession(m.SerializeToString()) for m in (source, ir.to_proto(model)))
    rng = np.random.default_rng(0)
    for found in range(13):
        x = rng.permutation(np.concatenate([rng.uniform(0.6, 1, found), np.zeros(12 - found)])).astype(np.float32)
        for a, b in zip(before.run(None, {"x": x}), after.run(None, {"x": x}), strict=True):
            np.testing.assert_array_equal(a, b)


def test_without_a_bound() -> None:
    source = onnx.parser.parse_model(TEXT.replace("MINIMUM", "k = Identity(n)").replace("LARGEST", "largest = 1"))
    assert not bound_choices(ir.from_proto(source))


@pytest.mark.parametrize("axis", [-1, 2])
def test_tensors_of_several_axes_stay(axis: int) -> None:
    """The largest values of each channel (WILDCAT's pooling), at most as many as there are: not those of all channels together."""
    text = """<ir_version: 10, opset_import: ["": 18]> g (float[N, 3, 4, 4] image) => (float[N, 3] scores)
    <int64[3] flat = {0, 3, -1}, int64[1] five = {5}, int64[1] last = {2}, int64[1] where = {2}> {
    x = Relu(image) t = Reshape(x, flat) n = Shape(t) m = Gather(n, where) k = Min(m, five)
    y, places = TopK<axis = AXIS>(t, k) scores = ReduceMean<keepdims = 0>(y, last) }"""
    source = onnx.parser.parse_model(text.replace("AXIS", str(axis)))
    cleaned = clean(source, None)
    assert cleaned.reason is None  # it takes several images
    images = np.random.default_rng(1).standard_normal((2, 3, 4, 4)).astype(np.float32)
    got = onnxruntime.InferenceSession(ir.to_proto(cleaned.model).SerializeToString()).run(None, {"image": images})[0]
    want = np.sort(np.maximum(images, 0).reshape(2, 3, 16), axis=-1)[..., -5:].mean(-1)
    np.testing.assert_allclose(got, want, rtol=1e-6)
