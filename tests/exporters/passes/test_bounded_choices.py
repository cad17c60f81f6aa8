"""TopK of at most k of the rows that were found: the same as ONNX Runtime's own, for any number of rows."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from xai_exporters.passes.bounded_choices import bound_choices

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
    assert bound_choices(model.graph)
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
    assert not bound_choices(ir.from_proto(source).graph)
