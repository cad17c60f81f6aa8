"""The pass that randomises: which weights, which numbers, and what stays."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from xai_exporters.passes.clean import clean
from xai_exporters.randomise import randomise

from .. import nets
from .. import onnx_nets as o
from ..test_randomise import Arrays, arrays_of, changed, run_onnx


def randomised(model: onnx.ModelProto, share: Fraction = Fraction(1), seed: int = 0) -> Arrays:
    """The initializers after the pass alone."""
    cleaned = clean(model, None).model
    randomise(cleaned, share, seed)
    return arrays_of(ir.to_proto(cleaned))


def test_distributions() -> None:
    """Kernels and matrices: mean and deviation of their own, nothing else of theirs; vectors: the same numbers elsewhere."""
    b = o.Build()
    x = b("Conv", "image", b.weight(b.rng.normal(0.5, 0.02, (64, 3, 5, 5)).astype(np.float32)), b.draw(64))
    x = b("PRelu", x, b.weight(b.rng.random((64, 1, 1)).astype(np.float32)))
    x = b("MatMul", b.pooled(x), b.weight(b.rng.exponential(1.0, (64, 80)).astype(np.float32)))
    x = b("MatMul", x, b.draw(80, 5), out="scores")
    model = b.model(x)
    source, got = arrays_of(model), randomised(model)
    for name in ("w0", "w3"):
        error = source[name].std() / math.sqrt(source[name].size)
        assert abs(got[name].mean() - source[name].mean()) < 4 * error
        assert abs(got[name].std() / source[name].std() - 1) < 4 / math.sqrt(2 * source[name].size)
        assert abs(np.corrcoef(got[name].ravel(), source[name].ravel())[0, 1]) < 4 / math.sqrt(source[name].size)
        assert got[name].dtype == np.float32
    assert (source["w3"] > 0).all()
    assert (got["w3"] < 0).any()  # a normal's, not the exponential's
    for name in ("w1", "w2"):
        assert (np.sort(got[name], axis=None) == np.sort(source[name], axis=None)).all()
        assert (got[name] != source[name]).all()  # no element stays, whatever the seed: all are different here


@pytest.mark.parametrize("seed", range(8))
def test_even_two_numbers_change(seed: int) -> None:
    b = o.Build()
    x = b("Conv", "image", b.draw(2, 3, 1, 1), b.weight(np.array([0.5, -0.5], np.float32)))
    model = b.model(b("MatMul", b.pooled(x), b.draw(2, 5), out="scores"))
    assert randomised(model, seed=seed)["w1"].tolist() == [-0.5, 0.5]


def test_shared_weights_are_of_the_last_layer() -> None:
    b = o.Build()
    shared = b.draw(4, 4, 3, 3)
    x = b("Relu", b.conv("image", 3, 4, name="first"))
    for i in range(3):
        x = b("Relu", b("Conv", x, shared, b.draw(4), pads=[1] * 4, name=f"again{i}"))
    model = b.model(b("MatMul", b.pooled(x), b.draw(4, 5), out="scores", name="fc"))
    source, cleaned = arrays_of(model), clean(model, None).model
    assert randomise(cleaned, Fraction(2, 5), 0) == ["fc", "again2"]
    two = arrays_of(ir.to_proto(cleaned))
    assert changed(source, two) == {"w6", "w5", "w0"}
    assert not changed({"w0": two["w0"]}, randomised(model))  # once, and not again with the others


def qdq() -> onnx.ModelProto:
    """int8 weights with a scale per channel, int32 bias with one, too; fake quantised floats in the last layer."""
    b = o.Build(13)

    def again(x: str, scale: float) -> str:
        s, z = b.weight(np.float32(scale)), b.weight(np.uint8(3))
        return b("DequantizeLinear", b("QuantizeLinear", x, s, z), s, z)

    codes = b.weight(b.rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), "codes")
    scales = b.weight(np.array([1e-4, 1e-3, 0.01, 0.02], np.float32), "scales")
    weight = b("DequantizeLinear", codes, scales, b.weight(np.zeros(4, np.int8), "zeros"), axis=0)
    b.weights.append(numpy_helper.from_array(np.array([40_000, -3_000, 200, -30], np.int32), "bias"))
    bias = b("DequantizeLinear", "bias", scales, axis=0)
    x = again(b("Relu", b("Conv", "image", weight, bias, pads=[1] * 4, strides=[2, 2])), 0.02)
    fc = b.weight(b.rng.standard_normal((4, 5)).astype(np.float32), "fc")
    scale = b.weight(np.float32(0.02))
    fake = b("DequantizeLinear", b("QuantizeLinear", fc, scale), scale)
    return b.model(b("Gemm", b.pooled(x), fake, b.weight(np.arange(5, dtype=np.float32), "end"), out="scores"))


def test_quantised() -> None:
    source, got = arrays_of(qdq()), randomised(qdq())
    left_alone = source.keys() - {"codes", "bias", "fc", "end"}
    assert {"scales", "zeros"} <= left_alone
    assert changed({n: source[n] for n in left_alone}, got) == set()
    assert got["codes"].dtype == np.int8
    assert (np.sort(got["codes"], axis=None) == np.sort(source["codes"], axis=None)).all()
    assert (got["codes"] != source["codes"]).mean() > 0.9
    real, was = got["bias"] * source["scales"], source["bias"] * source["scales"]
    assert (np.abs(np.sort(real) - np.sort(was)) < 0.02).all()  # what the codes stand for moves, not the codes
    assert (np.abs(real - was) > 0.1).all()
    assert (got["fc"] != source["fc"]).all()


def batchnorm() -> onnx.ModelProto:
    """BatchNorms behind a convolution and in front of one; channel 2 of each died: almost no scale, almost no variance."""
    b = o.Build()

    def norm(x: str, name: str) -> str:
        scale = b.weight(np.array([1.0, 0.8, 1e-6, 1.3], np.float32), f"{name}.scale")
        bias = b.weight(np.array([0.1, -0.2, -0.4, 0.3], np.float32), f"{name}.bias")
        mean = b.weight(np.array([0.5, 0.1, -1e-5, 0.2], np.float32), f"{name}.mean")
        variance = b.weight(np.array([1.1, 0.9, 1e-9, 1.2], np.float32), f"{name}.var")
        return b("BatchNormalization", x, scale, bias, mean, variance, name=name)

    x = b("Relu", norm(b.conv("image", 3, 4), "bn1"))
    x = b("Relu", norm(x, "bn2"))
    x = b.conv(x, 4, 4)
    return b.model(b("Gemm", b.pooled(x), b.draw(4, 5), b.draw(5), out="scores"))


def test_batchnorms_are_permuted_as_a_whole() -> None:
    source, got = arrays_of(batchnorm()), randomised(batchnorm())
    for name in ("bn1", "bn2"):
        kinds = [f"{name}.{kind}" for kind in ("scale", "bias", "mean", "var")]
        was, now = (np.stack([arrays[kind] for kind in kinds]).T for arrays in (source, got))
        assert sorted(now.tolist()) == sorted(was.tolist())  # a dead channel's scale stays beside its variance
        assert (now != was).any(axis=1).all()
    images = np.random.default_rng(0).standard_normal((6, *nets.SHAPE)).astype(np.float32)
    cleaned = clean(batchnorm(), None).model
    randomise(cleaned, Fraction(1), 0)
    logits = run_onnx(ir.to_proto(cleaned), images)
    assert np.abs(logits).max() < 30
    assert (logits.std(0) > 1e-3).all()


def test_only_weights() -> None:
    """Normalisation of the image, single numbers, bounds, sizes, masks, tensors of one number, integer indices: as before."""
    b = o.Build()
    rng = b.rng

    def floats(*shape: int) -> NDArray[Any]:
        return rng.standard_normal(shape).astype(np.float32)

    x = b("Div", b("Sub", "image", b.weight(floats(3, 1, 1), "mean")), b.weight(floats(3, 1, 1) + 5, "std"))
    x = b("BatchNormalization", x, *(b.weight(np.abs(floats(3)), f"image.{i}") for i in range(4)))
    x = b("Mul", x, b.weight(floats(3, 1, 1), "gain"))
    x = b("Conv", x, b.weight(floats(4, 3, 3, 3), "W"), b.weight(np.full(4, 0.3, np.float32), "B"), strides=[2, 2])
    x = b("Clip", x, b.weight(np.float32(-1.5), "low"), b.weight(np.float32(6), "high"))
    x = b("Resize", x, "", b.weight(np.array([1, 1, 2, 2], np.float32), "scales"), mode="nearest")
    x = b("Mul", b("Add", x, b.weight(np.float32(3), "three")), b.weight(np.array([[[0.5]]], np.float32), "half"))
    x = b("Mul", x, b.weight(floats(1, 4, 1, 1), "layerscale"))
    x = b("Transpose", b("Reshape", x, b.weight([0, 4, -1])), perm=[0, 2, 1])
    tokens = 14 * 18 + 1
    batch = b("Concat", b("Shape", "image", start=0, end=1), b.weight([1, 4]), axis=0)
    x = b("Concat", b("Expand", b.weight(floats(1, 1, 4), "token"), batch), x, axis=1)
    x = b("Add", x, b.weight(floats(1, tokens, 4), "position"))
    scores = b("MatMul", x, b("Transpose", x, perm=[0, 2, 1]))
    scores = b("Div", scores, b.weight(np.float32(2), "root"))
    mask = np.where(rng.random((tokens, tokens)) < 0.3, np.float32(-100), np.float32(0))
    x = b("MatMul", b("Softmax", b("Add", scores, b.weight(mask, "mask"))), x)
    x = b("LayerNormalization", x, b.weight(np.ones(4, np.float32), "ln"), b.weight(np.zeros(4, np.float32), "zero"))
    x = b("Gather", x, b.weight(0, "first"), axis=1)
    x = b("Einsum", x, b.weight(floats(4, 6), "einsum"), equation="nk,kc->nc")
    model = b.model(b("MatMul", x, b.weight(floats(6, 5), "fc"), out="scores"))
    cleaned = clean(model, None).model
    names = randomise(cleaned, Fraction(1), 0)
    got = arrays_of(ir.to_proto(cleaned))
    source = {name: array for name, array in arrays_of(model).items() if name in got}
    assert changed(source, got) == {"W", "layerscale", "token", "position", "einsum", "fc"}
    assert {"mean", "std", "gain", "B", "image.3", "scales", "mask", "ln", "zero"} <= source.keys()
    assert len(names) == 6
