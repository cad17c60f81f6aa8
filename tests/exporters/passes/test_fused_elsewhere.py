"""Fused operators that ONNX Runtime does not compute on a processor: against their formulas in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from .. import onnx_nets as o
from ..checks import close, onnxruntime
from ..running import export_onnx
from .test_fused import (
    IMAGES,
    OURS,
    TOKENS,
    WIDTH,
    Array,
    attention,
    fused,
    last_axis,
    network,
    patches,
    tokens,
    written,
)


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def softmax(x: Array, axes: tuple[int, ...] = (-1,)) -> Array:
    e = np.exp(x - x.max(axis=axes, keepdims=True))
    return np.asarray(e / e.sum(axis=axes, keepdims=True))


def gelu(x: Array) -> Array:
    return np.asarray(x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2)


def grouped(x: Array, groups: int, gamma: Array, beta: Array, epsilon: float) -> Array:
    """Group normalisation of [N,K,h,w]."""
    parts = x.reshape(len(x), groups, -1)
    y = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + epsilon)
    return np.asarray(y.reshape(x.shape) * gamma[:, None, None] + beta[:, None, None])


def attended(q: Array, k: Array, v: Array) -> Array:
    """Attention of [N,tokens,heads,size], heads side by side."""
    shares = softmax(np.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(q.shape[-1]))
    return np.asarray(np.einsum("nhqk,nkhd->nqhd", shares, v).reshape(*q.shape[:2], -1))


RNG = np.random.default_rng(7)
G, B = RNG.standard_normal(WIDTH), RNG.standard_normal(WIDTH)
BIAS = RNG.standard_normal((1, TOKENS, WIDTH))
PACKED = RNG.standard_normal((3, 2, 4))  # parts, heads, size


def last(x: Array) -> Array:
    return x.transpose(0, 2, 3, 1)


def group_norm(x: Array) -> Array:
    y = grouped(x, 4, G, B, 1e-5)
    return last(y * sigmoid(y))


def packed(b: o.Build, parts: int) -> str:
    """[N,20,2,parts,4]: heads, then queries, keys and values."""
    x = b("Reshape", tokens(b), b.weight([0, TOKENS, 2, 1, 4]))
    factors = b.weight(np.arange(1, parts + 1, dtype=np.float32).reshape(parts, 1))
    return b("Mul", x, factors)


def packed_result(x: Array, own_queries: bool) -> Array:
    x = x.reshape(len(x), TOKENS, 2, 4)
    if own_queries:
        return attended(x + PACKED[0], 2 * x + PACKED[1], 3 * x + PACKED[2])
    return attended(x + PACKED[0], x + PACKED[1], 2 * x + PACKED[2])


ELSEWHERE: dict[str, tuple[Callable[[o.Build], str], Callable[[o.Build], str], Callable[[Array], Array]]] = {
    "BiasSoftmax": (
        lambda b: fused(b, "BiasSoftmax", tokens(b), b.weight(f32(BIAS)), axis=2, is_inner_broadcast=0),
        tokens, lambda x: softmax(x + BIAS)),
    "BiasSoftmax of several axes": (
        lambda b: fused(b, "BiasSoftmax", tokens(b), b.weight(f32(BIAS)), axis=1, is_inner_broadcast=0),
        tokens, lambda x: softmax(x + BIAS, (1, 2))),
    "BiasSoftmax inside": (
        lambda b: fused(b, "BiasSoftmax", patches(b), b("Slice", b("ReduceMean", tokens(b), b.weight([1]), keepdims=0),
                        b.weight([0]), b.weight([5]), b.weight([1])), axis=3, is_inner_broadcast=1),
        patches, lambda x: softmax(x + x.mean((2, 3))[:, None, None, :5])),
    "BiasDropout": (
        lambda b: fused(b, "BiasDropout", tokens(b), b.weight(f32(B)), b("Sigmoid", tokens(b))),
        tokens, lambda x: x + B + sigmoid(x)),
    "BitmaskDropout": (lambda b: b("Neg", fused(b, "BitmaskDropout", tokens(b))), tokens, lambda x: -x),
    "BiasAdd": (
        lambda b: fused(b, "BiasAdd", tokens(b), b.weight(f32(B)), b("Sigmoid", tokens(b))),
        tokens, lambda x: x + B + sigmoid(x)),
    "BiasSplitGelu": (
        lambda b: fused(b, "BiasSplitGelu", tokens(b), b.weight(f32(B))),
        tokens, lambda x: (x + B)[..., :4] * gelu((x + B)[..., 4:])),
    "GroupNorm": (
        lambda b: fused(b, "GroupNorm", last_axis(b), b.weight(f32(G)), b.weight(f32(B)), groups=4, activation=1),
        patches, group_norm),
    "SkipGroupNorm": (
        lambda b: fused(b, "SkipGroupNorm", patches(b), b.weight(f32(G)), b.weight(f32(B)), b("ReduceMean", patches(b),
                        b.weight([2, 3]), keepdims=0), b.weight(f32(B)), groups=2, channels_last=0, epsilon=0.1),
        patches, lambda x: grouped(x + x.mean((2, 3), keepdims=True) + B[:, None, None], 2, G, B, 0.1)),
    "MultiHeadAttention, packed": (
        lambda b: fused(b, "MultiHeadAttention", packed(b, 3), "", "", b.weight(f32(PACKED.reshape(-1))), num_heads=2),
        tokens, lambda x: packed_result(x, True)),
    "MultiHeadAttention, keys and values packed": (
        lambda b: fused(b, "MultiHeadAttention", tokens(b), packed(b, 2), "", b.weight(f32(PACKED.reshape(-1))), num_heads=2),
        tokens, lambda x: packed_result(x, False)),
    "NhwcFusedConv": (
        lambda b: fused(b, "NhwcFusedConv", last_axis(b), b.weight(f32(np.outer(G, B)[..., None, None])), b.weight(f32(B)),
                        last_axis(b), activation="Relu"),
        patches, lambda x: np.maximum(last(x) @ np.outer(G, B).T + B + last(x), 0)),
    "GemmFastGelu": (
        lambda b: fused(b, "GemmFastGelu", tokens(b), b.weight(f32(np.outer(G, B))), b.weight(f32(B))),
        tokens, lambda x: tanh_gelu(x @ np.outer(G, B) + B)),
}  # fmt: skip
"""Operators without a kernel for processors: (the operator, the tensor that it takes, its formula)."""


def tanh_gelu(x: Array) -> Array:
    return np.asarray(x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def f32(x: Array) -> Array:
    return x.astype(np.float32)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_formula(name: str) -> None:
    case, taken, formula = ELSEWHERE[name]
    x = onnxruntime(network(taken).SerializeToString(), {"image": IMAGES})["scores"].astype(np.float64)
    shape = (len(x), WIDTH, 4, 5) if taken is patches else (len(x), TOKENS, WIDTH)
    got = onnxruntime(written(network(case)).SerializeToString(), {"image": IMAGES})["scores"]
    close(got, formula(x.reshape(shape)).reshape(len(x), -1))


def gpu(b: o.Build) -> str:
    """As the optimiser for GPUs writes it: an operator that no processor computes, and an attention without bias."""
    x = fused(b, "BiasAdd", attention(b, bias=False), b.weight(f32(B)), tokens(b))
    return b("ReduceMean", x, b.weight([1]), keepdims=0)


def test_a_file_for_gpus(tmp_path: Path) -> None:
    """It is exported, though ONNX Runtime can't run it here, and this is said."""
    b = o.Build()
    done = export_onnx(tmp_path, b.model(gpu(b), imports=[helper.make_opsetid(OURS, 1)]), split="patches_out")
    assert done.notes[0].startswith("ONNX Runtime does not compute Attention, BiasAdd on a processor")
    assert {"gradient", "relevance"} <= done.manifest.graphs.keys()
