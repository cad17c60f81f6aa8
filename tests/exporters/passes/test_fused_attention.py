"""Attention and RotaryEmbedding of opset 23 and later, against the onnx package's own implementation of their specification."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from xai_exporters.passes.clean import clean

from ..checks import close, onnxruntime, open_vino, reference

Array = NDArray[Any]
RNG = np.random.default_rng(0)
HEADS, TOKENS, SIZE = 4, 5, 6
IMAGES = RNG.standard_normal((3, HEADS, TOKENS, SIZE)).astype(np.float32)
SEEN = RNG.random((TOKENS, TOKENS)) > 0.5
SEEN[1] = False  # a query that sees no key
FLOATS = RNG.standard_normal((HEADS, TOKENS, TOKENS)).astype(np.float32)


def network(
    op: str, inputs: list[str], weights: dict[str, Array], before: list[Any], opset: int = 23, **attributes: Any
) -> Any:
    """The operator on [N,4,5,6], or on tokens [N,5,24] made of it; its outputs, flattened and side by side."""
    outputs = attributes.pop("outputs", ["y"])
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "shape"], ["tokens"]),
        helper.make_node("Neg", ["image"], ["k"]),
        helper.make_node("Sigmoid", ["image"], ["v"]),
        *before,
        helper.make_node(op, inputs, outputs, name="fused", **attributes),
        *(helper.make_node("Flatten", [name], [f"{name}_flat"]) for name in outputs if name),
        helper.make_node("Concat", [f"{name}_flat" for name in outputs if name], ["scores"], axis=1),
    ]
    weights = {"shape": np.array([0, TOKENS, HEADS * SIZE]), **weights}
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", HEADS, TOKENS, SIZE])
    scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", "m"])
    graph = helper.make_graph(
        nodes, "g", [image], [scores], [numpy_helper.from_array(v, k) for k, v in weights.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)


def shared() -> list[Any]:
    """Keys and values of two heads, for four heads of queries."""
    axes = ["zero", "two", "one"]
    return [helper.make_node("Slice", [x, *axes], [f"{x}2"]) for x in ("k", "v")]


TWO = {"zero": np.array([0]), "two": np.array([2]), "one": np.array([1])}
MASKED = {"attn": SEEN}
COMPUTED = [
    helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=1),
    helper.make_node("Add", ["mean", "attn"], ["computed"]),
]
LARGE = [*COMPUTED, helper.make_node("Greater", ["computed", "limit"], ["large"])]

COUNTED = [  # 3 plus the sign of the image's sum: 2 or 4 keys of 5
    helper.make_node("Flatten", ["image"], ["flat_image"]),
    helper.make_node("ReduceMean", ["flat_image", "axis1"], ["means"], keepdims=0),
    helper.make_node("Sign", ["means"], ["sign"]),
    helper.make_node("Add", ["sign", "three"], ["count"]),
    helper.make_node("Cast", ["count"], ["n"], to=onnx.TensorProto.INT64),
]

ATTENTION: dict[str, tuple[list[str], dict[str, Array], list[Any], dict[str, Any]]] = {
    "heads first": (["image", "k", "v"], {}, [], {}),
    "tokens": (["tokens", "tokens", "tokens"], {}, [], {"q_num_heads": 4, "kv_num_heads": 4, "scale": 0.3}),
    "shared keys": (["image", "k2", "v2"], TWO, shared(), {}),
    "softcap": (["image", "k", "v"], {}, [], {"softcap": 0.7}),
    "causal": (["image", "k", "v"], {}, [], {"is_causal": 1}),
    "booleans": (["image", "k", "v", "attn"], MASKED, [], {}),
    "booleans, causal": (["image", "k", "v", "attn"], MASKED, [], {"is_causal": 1}),
    "numbers": (["image", "k", "v", "attn"], {"attn": FLOATS}, [], {"softcap": 2.0}),
    "numbers with infinity": (["image", "k", "v", "attn"], {"attn": np.where(SEEN, FLOATS, -np.inf)}, [], {}),
    "computed numbers": (["image", "k", "v", "computed"], {"attn": FLOATS}, COMPUTED, {"is_causal": 1}),
    "computed booleans": (["image", "k", "v", "large"], {"attn": FLOATS, "limit": np.array([0.9], np.float32)}, LARGE, {}),
    **{
        f"product, mode {mode}": (
            ["image", "k", "v", "attn"], {"attn": FLOATS}, [],
            # without a softcap in mode 0: the package gives the product after it there, the specification the one before
            {"qk_matmul_output_mode": mode, "softcap": 0.9 * (mode > 0), "outputs": ["y", "", "", "qk"]},
        )
        for mode in range(4)
    },
    "keys and values given back": (["image", "k", "v"], {}, [], {"outputs": ["y", "pk", "pv"]}),
}  # fmt: skip

ANGLES = RNG.uniform(0, 6, (9, SIZE // 2)).astype(np.float32)
PLACES = np.array([[3, 0, 8, 1, 2]])
EVERY = [
    helper.make_node("Shape", ["image"], ["n"], start=0, end=1),
    helper.make_node("Concat", ["n", "tokens5"], ["sizes"], axis=0),
    helper.make_node("Expand", ["places", "sizes"], ["positions"]),
]
CACHES = {"cos": np.cos(ANGLES), "sin": np.sin(ANGLES), "places": PLACES, "tokens5": np.array([TOKENS])}
PART = {"cos": np.cos(ANGLES[:, :2]), "sin": np.sin(ANGLES[:, :2]), "places": PLACES, "tokens5": np.array([TOKENS])}

ROTARY: dict[str, tuple[list[str], dict[str, Array], list[Any], dict[str, Any]]] = {
    "halves": (["image", "cos", "sin", "positions"], CACHES, EVERY, {}),
    "pairs": (["image", "cos", "sin", "positions"], CACHES, EVERY, {"interleaved": 1}),
    "tokens": (["tokens", "cos", "sin", "positions"], CACHES, EVERY, {"num_heads": HEADS}),
    "a part": (["image", "cos", "sin", "positions"], PART, EVERY, {"rotary_embedding_dim": 4, "interleaved": 1}),
}


def check(model: Any, both: bool) -> None:
    again = ir.to_proto(clean(model, None).model)
    assert not {"Attention", "RotaryEmbedding"} & {node.op_type for node in again.graph.node}
    assert [i.version for i in again.opset_import] == [18]
    for images in (IMAGES[:1], IMAGES):
        want = reference(model, {"image": images})["scores"]
        close(onnxruntime(again.SerializeToString(), {"image": images})["scores"], want)
        if both:
            close(open_vino(again.SerializeToString(), {"image": images})["scores"], want)


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str) -> None:
    inputs, weights, before, attributes = ATTENTION[name]
    check(network("Attention", inputs, weights, before, **attributes), name in ("shared keys", "booleans, causal"))


@pytest.mark.parametrize("name", ROTARY)
def test_rotary(name: str) -> None:
    inputs, weights, before, attributes = ROTARY[name]
    check(network("RotaryEmbedding", inputs, weights, before, **attributes), name == "pairs")


def test_window() -> None:
    """Opset 25: a query sees keys at most `left` before it and `right` behind it."""
    attributes = {"left_window_size": 1, "right_window_size": 2}
    check(network("Attention", ["image", "k", "v"], {}, [], 25, **attributes), False)


PAST = {"past": RNG.standard_normal((1, HEADS, 3, SIZE)).astype(np.float32)}
BOTH = {**PAST, "past2": -PAST["past"]}
EARLIER: dict[str, tuple[list[str], dict[str, Array], list[Any], dict[str, Any]]] = {
    "a cache": (["image", "k", "v", "", "past", "past2"], BOTH, [], {"outputs": ["y", "pk", "pv"]}),
    "causal": (["image", "k", "v", "", "past", "past2"], BOTH, [], {"is_causal": 1, "outputs": ["y", "pk", "pv"]}),
    "tokens, a mask of all keys": (
        ["tokens", "tokens", "tokens", "attn", "past", "past2"], {**BOTH, "attn": np.pad(SEEN, ((0, 0), (3, 0)))}, [],
        {"q_num_heads": 4, "kv_num_heads": 4, "is_causal": 1, "outputs": ["y", "pk", "pv"]},
    ),
    "a shorter mask": (["image", "k", "v", "attn", "past", "past2"], {**BOTH, "attn": FLOATS}, [], {"outputs": ["y", "pk", "pv"]}),
    "computed": (
        ["image", "k", "v", "", "k", "v"], {}, [], {"is_causal": 1, "outputs": ["y", "pk", "pv"]},
    ),
    "counts": (["image", "k", "v", "", "", "", "n"], {}, COUNTED, {}),
    "counts, causal": (["image", "k", "v", "", "", "", "n"], {}, COUNTED, {"is_causal": 1}),
    "counts, a mask": (["image", "k", "v", "attn", "", "", "n"], {"attn": FLOATS}, COUNTED, {"is_causal": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", EARLIER)
def test_earlier_keys(name: str) -> None:
    """Opset 24: with a cache, or with a count of keys for each image, which here depends on the image."""
    inputs, weights, before, attributes = EARLIER[name]
    weights = {**weights, **({"three": np.array([3.0], np.float32), "axis1": np.array([1])} if before else {})}
    model = network("Attention", inputs, weights, before, 24, **attributes)
    fixed = name not in ("computed", "counts", "counts, causal", "counts, a mask")
    again = ir.to_proto(clean(model, None).model)
    assert "Attention" not in {node.op_type for node in again.graph.node}
    for images in (IMAGES[:1], IMAGES):
        # the package concatenates a cache of one row to one image alone
        singles = [images[i : i + 1] for i in range(len(images))] if fixed else [images]
        want = np.concatenate([reference(model, {"image": single})["scores"] for single in singles])
        close(onnxruntime(again.SerializeToString(), {"image": images})["scores"], want)
        if name in ("causal", "counts, causal"):
            close(open_vino(again.SerializeToString(), {"image": images})["scores"], want)
