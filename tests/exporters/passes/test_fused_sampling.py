"""Deformable convolution and unpooling, written in operators that both runtimes have: against ONNX Runtime's own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from xai_exporters.errors import GraphError
from xai_exporters.passes.decompose import decompose

from ..vjp.harness import RUNTIMES, Array, Free, check_graph, gradient_model, graph_model, onnxruntime_function, weights

W = weights(2)
CHANNELS, HEIGHT, WIDTH = 4, 5, 6


def deformable(
    kernel: tuple[int, int], group: int = 1, parts: int = 1, mask: bool = False, bias: bool = True, **attributes: Any
) -> onnx.ModelProto:
    """x [N,4,5,6], the offsets and the mask as inputs -> y."""
    strides, pads, dilations = (
        attributes.get(k, d) for k, d in (("strides", [1, 1]), ("pads", [0] * 4), ("dilations", [1, 1]))
    )
    taps = kernel[0] * kernel[1]
    sizes = [
        (n + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i, n in enumerate((HEIGHT, WIDTH))
    ]
    inputs = {"x": ["N", CHANNELS, HEIGHT, WIDTH], "offset": ["N", 2 * parts * taps, *sizes]}
    names, constants = ["x", "w", "offset", "b" * bias], {"w": W(4, CHANNELS // group, *kernel)}
    constants |= {"b": W(4)} if bias else {}
    if mask:
        names, inputs["mask"] = [*names, "mask"], ["N", parts * taps, *sizes]
    options = {"group": group, "offset_group": parts, "kernel_shape": list(kernel), **attributes}
    return graph_model(
        [helper.make_node("DeformConv", names, ["y"], name="deform", **options)], inputs, constants, opset=19
    )


DEFORMABLE = [
    deformable((3, 3), pads=[1] * 4),
    deformable((3, 2), 2, 2, True, pads=[1, 0, 1, 0], strides=[2, 1]),
    deformable((2, 2), 4, 4, True, bias=False, dilations=[2, 1]),
    deformable((1, 1)),
]


def written(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model decomposed, at opset 18 as the export has it."""
    rewritten = ir.from_proto(model)
    assert decompose(rewritten)
    proto = ir.to_proto(rewritten)
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", 18))
    return proto


@pytest.mark.parametrize("model", DEFORMABLE, ids=range(len(DEFORMABLE)))
def test_deformable_convolution(model: onnx.ModelProto) -> None:
    feeds = drawn(model, 2.0)
    want = onnxruntime_function(model, "y")(feeds)
    for name, function in RUNTIMES.items():
        got = function(written(model), "y")(feeds)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max(), err_msg=name)


@pytest.mark.parametrize("x", ["x", "offset", "mask"])
def test_its_gradient(x: str) -> None:
    check_graph(written(DEFORMABLE[1]), x, batches=(2,))


@pytest.mark.parametrize("sizes", [(6, 8), (5, 7)])
def test_unpooling(sizes: tuple[int, int]) -> None:
    """With a size that no window reaches the end of, which only output_shape tells."""
    given: dict[str, Array] = {"size": np.array([3, 2, *sizes])} if sizes[0] % 2 else {}
    nodes = [
        helper.make_node("MaxPool", ["x"], ["pooled", "places"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Sigmoid", ["pooled"], ["s"]),
        helper.make_node("MaxUnpool", ["s", "places", *given], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    model = graph_model(nodes, {"x": ["N", 2, *sizes]}, given)
    feeds = drawn(model)
    want = onnxruntime_function(model, "y")(feeds)
    assert (want != 0).sum() == 3 * 2 * (sizes[0] // 2) * (sizes[1] // 2)
    for name, function in RUNTIMES.items():
        np.testing.assert_allclose(function(written(model), "y")(feeds), want, rtol=0, atol=1e-6, err_msg=name)
    gradient = gradient_model(written(model), "x")
    x, dy = torch.from_numpy(feeds["x"]).double().requires_grad_(), drawn(model)["x"]
    pooled, places = F.max_pool2d(x, 2, 2, return_indices=True)
    y = F.max_unpool2d(pooled.sigmoid(), places, [2, 2], [2, 2], output_size=sizes)
    y.backward(torch.from_numpy(dy).double())  # type: ignore[no-untyped-call]
    assert x.grad is not None
    for name, function in RUNTIMES.items():
        got = function(gradient, "dx")({**feeds, "dy": dy})
        np.testing.assert_allclose(got, x.grad.numpy(), rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("sizes", "pads", "columns"), [((7, 9), [0] * 4, 0), ((8, 8), [1] * 4, 0), ((7, 5), [0] * 4, 1)]
)
def test_unpooling_of_windows_that_overlap(sizes: tuple[int, int], pads: list[int], columns: int) -> None:
    """A place that two windows name holds the last one's value, and its gradient reaches that one alone: by definition, in float64.

    OpenVINO's places count along the rows, whatever storage_order says; they are counted again.
    """
    pool: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads}
    size = np.array([3, 2, *(sizes[::-1] if columns else sizes)])
    w = W(2, *((n + 2 * pads[0] - 3) // 2 + 1 for n in sizes))
    nodes = [
        helper.make_node("MaxPool", ["x"], ["pooled", "places"], storage_order=columns, **pool),
        helper.make_node("Mul", ["pooled", "w"], ["s"]),
        helper.make_node("MaxUnpool", ["s", "places", "size"], ["y"], **pool),
    ]
    model = graph_model(nodes, {"x": ["N", 2, *sizes]}, {"size": size, "w": w})
    feeds = {"x": Free(("N", 2, *sizes), "distinct").sample(3, np.random.default_rng(0)).astype(np.float32)}
    dy = W(*size)

    def unpooled(x: Array) -> Array:
        pooled, places = (t.numpy() for t in F.max_pool2d(torch.from_numpy(x), 3, 2, pads[0], return_indices=True))
        if columns:
            places = places % sizes[1] * sizes[0] + places // sizes[1]
        y = np.zeros((*x.shape[:2], x[0, 0].size))
        for at in np.ndindex(pooled.shape):
            y[(*at[:2], places[at])] = pooled[at] * w[at[1:]]
        return y.reshape(size)

    x = feeds["x"].astype(np.float64)
    ends = [[(unpooled(x + h * d.reshape(x.shape)) * dy).sum() for h in (1e-5, -1e-5)] for d in np.eye(x.size)]
    want = np.array([(a - b) / 2e-5 for a, b in ends]).reshape(x.shape)
    gradient = gradient_model(written(model), "x")
    for name, function in RUNTIMES.items():
        np.testing.assert_allclose(function(written(model), "y")(feeds), unpooled(x), rtol=0, atol=1e-5, err_msg=name)
        got = function(gradient, "dx")({**feeds, "dy": dy})
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(onnxruntime_function(model, "y")(feeds), unpooled(x), rtol=0, atol=1e-5)


def drawn(model: onnx.ModelProto, scale: float = 1.0) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    shapes = {v.name: [d.dim_value or 3 for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def test_refusals() -> None:
    pooled = helper.make_node("MaxUnpool", ["x", "places", "size"], ["y"], kernel_shape=[2, 2], name="up")
    size = helper.make_node("Shape", ["x"], ["size"])
    model = graph_model([size, pooled], {"x": [1, 2, 3, 3]}, {"places": np.zeros((1, 2, 3, 3), np.int64)})
    with pytest.raises(
        GraphError, match=r"node 'up' is MaxUnpool, which can't be written .*: its output_shape is computed; export"
    ):
        decompose(ir.from_proto(model))
    line = helper.make_node("DeformConv", ["x", "w", "o"], ["y"], name="line")
    model = graph_model([line], {"x": ["N", 2, 6], "o": ["N", 6, 6]}, {"w": W(2, 2, 3)}, opset=19)
    with pytest.raises(GraphError, match=r"node 'line' is DeformConv, .* it is not of images \[N,C,h,w\]"):
        decompose(ir.from_proto(model))
