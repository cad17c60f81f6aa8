"""Fused operators and what they stand for give the same, on ONNX Runtime; both runtimes compute what is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from xai_exporters import Request
from xai_exporters.errors import GraphError
from xai_exporters.passes.clean import clean
from xai_exporters.sources import load_source

from .. import nets
from .. import onnx_nets as o
from ..checks import close, onnxruntime, open_vino

Array = NDArray[Any]
OURS = "com.microsoft"
WIDTH, TOKENS = 8, 20
IMAGES = np.random.default_rng(5).standard_normal((3, *nets.SHAPE)).astype(np.float32)


def patches(b: o.Build) -> str:
    """[N,8,4,5], the same each time."""
    if any(node.name == "patches" for node in b.nodes):
        return "patches_out"
    return b("Conv", "image", b.draw(WIDTH, 3, 4, 4), b.draw(WIDTH), strides=[4, 4], name="patches")


def last_axis(b: o.Build) -> str:
    """[N,4,5,8]."""
    return b("Transpose", patches(b), perm=[0, 2, 3, 1])


def tokens(b: o.Build, width: int = WIDTH) -> str:
    """[N,20,width]."""
    x = b("Transpose", b("Reshape", patches(b), b.weight([0, WIDTH, TOKENS])), perm=[0, 2, 1])
    return x if width == WIDTH else b("MatMul", x, b.draw(WIDTH, width))


def rows(b: o.Build) -> str:
    """[N,8]."""
    return b("ReduceMean", tokens(b), b.weight([1]), keepdims=0)


def fused(b: o.Build, op: str, *inputs: str, **attributes: Any) -> str:
    return b(op, *inputs, domain=OURS, **attributes)


def activated_conv(b: o.Build, activation: str, *parameters: float, residual: bool = False, bias: bool = True) -> str:
    further = {"activation_params": list(parameters)} if parameters else {}
    x = patches(b)
    inputs = [x, b.draw(WIDTH, 4, 3, 3), b.draw(WIDTH) if bias else "", *([x] if residual else [])]
    return fused(b, "FusedConv", *inputs, activation=activation, group=2, pads=[1] * 4, **further)


def gemm(b: o.Build, **attributes: Any) -> str:
    weight = b.draw(6, WIDTH) if attributes.get("transB") else b.draw(WIDTH, 6)
    return fused(b, "FusedGemm", rows(b), weight, b.draw(6), **attributes)


def product(b: o.Build, a: str, turned: dict[str, int], op: str = "FusedMatMul") -> str:
    """A product of [N,4,5,WIDTH] with itself, its axes as the attributes say."""
    maps = last_axis(b)
    return fused(b, op, maps, maps if a == "both" else b.draw(*WEIGHTS[a]), alpha=0.5, **turned)


WEIGHTS = {"plain": (4, WIDTH, 3), "turned": (3, WIDTH), "batch": (WIDTH, 4, 3), "batch turned": (3, 4, WIDTH)}


def mask(b: o.Build, shape: tuple[int, ...]) -> str:
    array = (b.rng.random(shape) > 0.4).astype(np.int32)
    array[..., 0] = 1
    b.weights.append(onnx.numpy_helper.from_array(array, "mask"))
    return "mask"


def expanded(b: o.Build, value: str, *sizes: int) -> str:
    """A constant for one image, for the batch."""
    return b("Expand", value, batch_of(b, *sizes))


def attention(b: o.Build, *further: str, value: int = WIDTH, bias: bool = True, **attributes: Any) -> str:
    width = 2 * WIDTH + value
    sizes = {} if value == WIDTH else {"qkv_hidden_sizes": [WIDTH, WIDTH, value]}
    given = [tokens(b), b.draw(WIDTH, width), b.draw(width) if bias else "", *further]
    return fused(b, "Attention", *given, num_heads=2, **sizes, **attributes)


def heads(b: o.Build, *further: str, value: int = WIDTH, bias: bool = True, **attributes: Any) -> str:
    q, k, v = tokens(b), tokens(b), tokens(b, value)
    given = [q, k, v, b.draw(2 * WIDTH + value) if bias else "", *further]
    return fused(b, "MultiHeadAttention", *given, num_heads=2, **attributes)


def crossed(b: o.Build) -> str:
    """Keys and values [N,heads,tokens,size] of other tokens, as in cross attention."""
    k = b("Transpose", b("Reshape", tokens(b), b.weight([0, TOKENS, 2, 4])), perm=[0, 2, 1, 3])
    k = b("Slice", k, b.weight([0]), b.weight([7]), b.weight([2]))
    return fused(b, "MultiHeadAttention", tokens(b), k, b("Neg", k), b.draw(3 * WIDTH), num_heads=2)


def rotated(b: o.Build, interleaved: int, four: bool = False, start: bool = False) -> str:
    x = tokens(b)
    if four:
        x = b("Transpose", b("Reshape", x, b.weight([0, TOKENS, 2, 4])), perm=[0, 2, 1, 3])
    angles = b.rng.uniform(0, 6, (30, 2)).astype(np.float32)
    positions = b.weight([3]) if start else b("Expand", b.weight(np.arange(TOKENS)[None]), batch_of(b, TOKENS))
    cos, sin = b.weight(np.cos(angles)), b.weight(np.sin(angles))
    return fused(b, "RotaryEmbedding", x, positions, cos, sin, interleaved=interleaved)


def batch_of(b: o.Build, *sizes: int) -> str:
    """The shape [N, *sizes]."""
    return b("Concat", b("Shape", "image", start=0, end=1), b.weight(list(sizes)), axis=0)


def skipped(b: o.Build, simple: bool, bias: bool, both: bool = False) -> str:
    x = tokens(b)
    inputs = [x, b("Neg", b("Sigmoid", x)), b.draw(WIDTH), *([] if simple else [b.draw(WIDTH)])]
    inputs += [b.draw(WIDTH)] if bias else []
    name = "SkipSimplifiedLayerNormalization" if simple else "SkipLayerNormalization"
    outputs = ["y", "", "", "s"] if both else ["y"]
    b.nodes.append(helper.make_node(name, inputs, outputs, domain=OURS, name="skip", epsilon=1e-5))
    return b("Mul", "y", "s") if both else "y"


CASES: dict[str, Callable[[o.Build], str]] = {
    "Gelu": lambda b: fused(b, "Gelu", patches(b)),
    "BiasGelu": lambda b: fused(b, "BiasGelu", tokens(b), b.draw(WIDTH)),
    "FastGelu": lambda b: fused(b, "FastGelu", tokens(b)),
    "FastGelu with bias": lambda b: fused(b, "FastGelu", tokens(b), b.draw(WIDTH)),
    "QuickGelu": lambda b: fused(b, "QuickGelu", tokens(b)),
    "QuickGelu as SiLU": lambda b: fused(b, "QuickGelu", tokens(b), alpha=1.0),
    "FusedConv Relu": lambda b: activated_conv(b, "Relu"),
    "FusedConv Sigmoid": lambda b: activated_conv(b, "Sigmoid"),
    "FusedConv Tanh": lambda b: activated_conv(b, "Tanh"),
    "FusedConv LeakyRelu": lambda b: activated_conv(b, "LeakyRelu", 0.2),
    "FusedConv Clip": lambda b: activated_conv(b, "Clip", -0.1, 0.3),
    "FusedConv HardSigmoid": lambda b: activated_conv(b, "HardSigmoid", 0.3, 0.4),
    "FusedConv with a sum": lambda b: activated_conv(b, "Relu", residual=True),
    "FusedConv with a sum, without bias": lambda b: activated_conv(b, "Tanh", residual=True, bias=False),
    "FusedGemm": lambda b: gemm(b, activation="Relu", transB=1, alpha=0.5, beta=2.0),
    "FusedGemm LeakyRelu": lambda b: gemm(b, activation="LeakyRelu", activation_alpha=0.3),
    "FusedMatMul": lambda b: product(b, "plain", {}),
    "FusedMatMul transB": lambda b: product(b, "turned", {"transB": 1}),
    "FusedMatMul transA": lambda b: product(b, "both", {"transA": 1}),
    "FusedMatMul both": lambda b: product(b, "both", {"transB": 1}),
    "FusedMatMul batches": lambda b: product(b, "both", {"transBatchA": 1, "transBatchB": 1, "transB": 1}),
    "FusedMatMul batches, turned": lambda b: product(b, "both", {"transBatchA": 1, "transBatchB": 1, "transA": 1}),
    "TransposeMatMul": lambda b: product(b, "turned", {"transB": 1}, "TransposeMatMul"),
    "Attention": attention,
    "Attention, other values": lambda b: attention(b, value=12, scale=0.3),
    "Attention, each sees earlier ones": lambda b: attention(b, unidirectional=1),
    "Attention, bias of scores": lambda b: attention(b, "", "", b.draw(1, 2, TOKENS, TOKENS)),
    "MultiHeadAttention": heads,
    "MultiHeadAttention, other values": lambda b: heads(b, value=12, scale=0.3),
    "MultiHeadAttention, no bias": lambda b: heads(b, bias=False),
    "MultiHeadAttention, bias of scores": lambda b: heads(b, "", b.draw(1, 1, TOKENS, TOKENS)),
    "MultiHeadAttention, each sees earlier ones": lambda b: heads(b, unidirectional=1),
    "MultiHeadAttention, keys from elsewhere": crossed,
    "RotaryEmbedding": lambda b: rotated(b, 0, True),
    "RotaryEmbedding interleaved": lambda b: rotated(b, 1),
    "RotaryEmbedding from a start": lambda b: rotated(b, 0, start=True),
    "SkipLayerNormalization": lambda b: skipped(b, False, False),
    "SkipLayerNormalization with bias": lambda b: skipped(b, False, True),
    "SkipLayerNormalization and its sum": lambda b: skipped(b, False, True, True),
    "SkipSimplifiedLayerNormalization": lambda b: skipped(b, True, False),
    "SkipSimplifiedLayerNormalization with bias": lambda b: skipped(b, True, True),
    "SimplifiedLayerNormalization": lambda b: b("SimplifiedLayerNormalization", tokens(b), b.draw(WIDTH)),
    "Attention, mask of keys": lambda b: attention(b, expanded(b, mask(b, (1, TOKENS)), TOKENS)),
    "Attention, mask of queries and keys": lambda b: attention(
        b, expanded(b, mask(b, (1, TOKENS, TOKENS)), TOKENS, TOKENS), unidirectional=1, mask_filter_value=-3.0),
    "MultiHeadAttention, mask of keys": lambda b: heads(b, expanded(b, mask(b, (1, TOKENS)), TOKENS), b.draw(1, 2, TOKENS, TOKENS)),
    "MultiHeadAttention, mask of queries and keys": lambda b: heads(b, expanded(b, mask(b, (1, TOKENS, TOKENS)), TOKENS, TOKENS)),
    "GatedRMSNorm": lambda b: fused(b, "GatedRMSNorm", tokens(b), b.draw(WIDTH // 2), b("Neg", tokens(b))),
    "GatedRMSNorm sigmoid": lambda b: fused(b, "GatedRMSNorm", tokens(b), b.draw(WIDTH), tokens(b), activation="sigmoid"),
    "BranchwiseRMSNorm": lambda b: fused(b, "BranchwiseRMSNorm", tokens(b), b.draw(WIDTH), num_branches=2, epsilon=0.01),
    "BranchwiseRMSNorm of branches": lambda b: fused(b, "BranchwiseRMSNorm", last_axis(b), b.draw(5, WIDTH)),
    "ScaledSiLU": lambda b: fused(b, "ScaledSiLU", tokens(b), alpha=0.7),
    "Inverse": lambda b: fused(b, "Inverse", b("Slice", patches(b), b.weight([0]), b.weight([4]), b.weight([3]))),
    "CDist": lambda b: fused(b, "CDist", rows(b), b.draw(3, WIDTH), metric="euclidean"),
    "Pad": lambda b: fused(b, "Pad", patches(b), b.weight([0, 0, 1, -1, 0, 0, 2, 0]), b.weight(np.float32(0.5))),
    "UnfoldTensor": lambda b: fused(b, "UnfoldTensor", patches(b), dim=2, size=3, step=1),
    "Range": lambda b: b("Add", patches(b), fused(b, "Range", b.weight(np.float32(0)), b.weight(np.float32(5)))),
    "ConvTransposeWithDynamicPads": lambda b: fused(
        b, "ConvTransposeWithDynamicPads", patches(b), b.draw(WIDTH, 3, 3, 3), b.weight([1, 0, 1, 1]), b.draw(3), strides=[2, 2]),
    "ExpandDims": lambda b: b("Squeeze", fused(b, "ExpandDims", tokens(b), int32(b, 1)), b.weight([1])),
    "Trilu": lambda b: fused(b, "Trilu", patches(b), upper=0),
    "GridSample": lambda b: fused(b, "GridSample", patches(b), b("Expand", b.weight(
        b.rng.uniform(-1, 1, (1, 3, 2, 2)).astype(np.float32)), batch_of(b, 3, 2, 2)), align_corners=1),
}  # fmt: skip


def int32(b: o.Build, value: int) -> str:
    b.weights.append(onnx.numpy_helper.from_array(np.array(value, np.int32), "axis"))
    return "axis"


def network(case: Callable[[o.Build], str], opset: int = 18) -> onnx.ModelProto:
    """The operator's result as the network's output."""
    b = o.Build(opset)
    out = b("Flatten", case(b), out="scores")
    return b.model(out, imports=[helper.make_opsetid(OURS, 1)], ir_version=10)


def written(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network after all passes."""
    graph = clean(model, None)
    assert all(node.domain == "" for node in graph.graph)
    return ir.to_proto(graph.model)


@pytest.mark.parametrize("name", CASES)
def test_same_result(name: str) -> None:
    model = network(CASES[name])
    own, again = model.SerializeToString(), written(model).SerializeToString()
    want = onnxruntime(own, {"image": IMAGES})["scores"]
    close(onnxruntime(again, {"image": IMAGES})["scores"], want)
    close(onnxruntime(again, {"image": IMAGES[:1]})["scores"], onnxruntime(own, {"image": IMAGES[:1]})["scores"])
    if name in ON_BOTH:
        close(open_vino(again, {"image": IMAGES})["scores"], want)


ON_BOTH = {
    "Attention, other values",
    "Attention, mask of keys",
    "UnfoldTensor",
    "Pad",
    "MultiHeadAttention, bias of scores",
    "RotaryEmbedding",
    "FusedConv with a sum",
}


def test_old_opset() -> None:
    """ONNX Runtime writes LayerNormalization into files of any opset, where ONNX has it from 17 on."""
    b = o.Build(12)
    x = b("Conv", "image", b.draw(WIDTH, 3, 4, 4), b.draw(WIDTH), strides=[4, 4], name="layer")
    y = b("LayerNormalization", b("Transpose", x, perm=[0, 2, 3, 1]), b.draw(WIDTH), b.draw(WIDTH), epsilon=0.01)
    y = fused(b, "Gelu", b("SimplifiedLayerNormalization", y, b.draw(WIDTH)))
    model = b.model(b("ReduceMean", y, axes=[1, 2], keepdims=0, out="scores"), imports=[helper.make_opsetid(OURS, 1)])
    again = written(model)
    assert "LayerNormalization" in {node.op_type for node in again.graph.node}
    want = onnxruntime(model.SerializeToString(), {"image": IMAGES})["scores"]
    close(onnxruntime(again.SerializeToString(), {"image": IMAGES})["scores"], want)


@pytest.mark.parametrize("opset", [18, 20])
def test_withdrawn_group_normalization(opset: int, tmp_path: Path) -> None:
    """Of opset 18 to 20: a scale and a bias for each group."""
    b = o.Build(opset)
    y = b("GroupNormalization", patches(b), b.draw(4), b.draw(4), num_groups=4, epsilon=0.01)
    model = b.model(b.linear(b("Slice", b.pooled(y), b.weight([0]), b.weight([6]), b.weight([1])), out="scores"))
    want = onnxruntime(model.SerializeToString(), {"image": IMAGES})["scores"]
    close(onnxruntime(written(model).SerializeToString(), {"image": IMAGES})["scores"], want)
    onnx.save(model, tmp_path / "net.onnx")
    assert load_source(Request(tmp_path / "net.onnx")).kind == "ONNX"  # the checker of the onnx package refuses it


REFUSED: dict[str, tuple[Callable[[o.Build], str], str]] = {
    "activation": (lambda b: activated_conv(b, "Cube"), "its activation 'Cube' is not known"),
    "bounds": (lambda b: activated_conv(b, "Clip"), "its activation Clip lacks its bounds"),
    "past": (lambda b: attention(b, "", b.draw(2, 1, 2, 3, 4)), "it has the input past"),
    "rotary": (lambda b: attention(b, do_rotary=1), r"rotates queries and keys \(do_rotary\)"),
    "lengths": (lambda b: attention(b, mask(b, (1,))), "its mask has 1 dimensions"),
    "training": (
        lambda b: fused(b, "BiasDropout", tokens(b), b.draw(WIDTH), "", b.draw(), b.weight(np.array(True))),
        "it is in training mode",
    ),
    "cache": (
        lambda b: fused(b, "DecoderMaskedMultiHeadAttention", tokens(b), tokens(b), tokens(b), num_heads=2),
        "it keeps a cache of earlier keys and values",
    ),
    "rows": (
        lambda b: fused(b, "Inverse", b("MatMul", patches(b), b.draw(5, 5))),
        "its matrices have 5 rows, more than 4",
    ),
    "metric": (
        lambda b: fused(b, "CDist", rows(b), b.draw(3, WIDTH), metric="cosine"),
        "its metric 'cosine' is not known",
    ),
    "pads": (
        lambda b: fused(b, "ConvTransposeWithDynamicPads", patches(b), b.draw(WIDTH, 3, 3, 3), b("Shape", patches(b))),
        "its pads are computed; export the network for a fixed size",
    ),
    "fewer queries": (
        lambda b: fused(
            b,
            "MultiHeadAttention",
            b("Slice", tokens(b), b.weight([0]), b.weight([3]), b.weight([1])),
            tokens(b),
            tokens(b),
            num_heads=2,
            unidirectional=1,
        ),
        r"it is unidirectional with 3 queries and \d+ keys; export it with a mask",
    ),
    "no keys": (
        lambda b: fused(b, "MultiHeadAttention", tokens(b), num_heads=2),
        "its queries have 3 dimensions and there are no keys",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    case, message = REFUSED[name]
    start = "^node .* is com.microsoft.*, which can't be written in other operators here: "
    with pytest.raises(GraphError, match=f"{start}.*{message}"):
        clean(network(case), None)


@pytest.mark.parametrize("name", ["Gelu", "SkipLayerNormalization and its sum", "Attention, other values"])
def test_half_precision(name: str) -> None:
    """As files for GPUs are; constants have the type of the tensors."""
    model = network(CASES[name])
    want = onnxruntime(model.SerializeToString(), {"image": IMAGES})["scores"]
    half = convert_float_to_float16(model, keep_io_types=True)
    del half.graph.value_info[:]
    again = written(half)
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for t in again.graph.initializer)
    close(onnxruntime(again.SerializeToString(), {"image": IMAGES})["scores"], want, 5e-3)


def test_a_tensor_of_unknown_shape() -> None:
    """A rule that needs a shape waits for the operators before it; an operator without a rule is named itself."""
    model = network(lambda b: fused(b, "FusedMatMul", fused(b, "IsAllFinite", patches(b)), b.draw(3, 5), transB=1))
    with pytest.raises(GraphError, match=r"is com\.microsoft\.IsAllFinite, which only some runtimes know"):
        clean(model, None)
    b = o.Build()
    chain = fused(
        b, "FusedMatMul", fused(b, "Gelu", fused(b, "BiasGelu", tokens(b), b.draw(WIDTH))), b.draw(3, WIDTH), transB=1
    )
    model = b.model(b("Flatten", chain, out="scores"), imports=[helper.make_opsetid(OURS, 1)], ir_version=10)
    want = onnxruntime(model.SerializeToString(), {"image": IMAGES})["scores"]
    close(onnxruntime(written(model).SerializeToString(), {"image": IMAGES})["scores"], want)
