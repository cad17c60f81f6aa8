"""Resizes that shrink with antialiasing, as matrix products: against ONNX Runtime's own, and torch, on both runtimes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from xai_exporters.cut.featuremap import find_grid
from xai_exporters.passes.clean import clean

from ..vjp.harness import RUNTIMES, Array, f32, graph_model, ints, onnxruntime_function

X = np.random.default_rng(0).standard_normal((3, 3, 9, 12)).astype(np.float32)


def resized(*inputs: str, channels_last: bool = False, **attributes: Any) -> Any:
    """image [N,3,9,12] -> y, resized; `channels_last` resizes [N,9,12,3]."""
    nodes = [helper.make_node("Resize", ["x", *inputs], ["y"], name="shrink", antialias=1, **attributes)]
    if channels_last:
        nodes[0].input[0], nodes[0].output[0] = "last", "small"
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["last"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Transpose", ["small"], ["y"], perm=[0, 3, 1, 2]))
    constants: dict[str, Array] = {"sizes": ints(4, 15), "scales": f32(1, 1, 0.55, 0.5), "turned": f32(1, 0.55, 0.5, 1)}
    return graph_model(nodes, {"x": ["N", 3, 9, 12]}, {k: v for k, v in constants.items() if k in inputs})


CASES = {
    "cubic by sizes": resized("", "", "sizes", axes=[2, 3], mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    "linear by scales": resized("", "scales", mode="linear"),
    "aligned, channels last": resized(
        "", "turned", mode="linear", coordinate_transformation_mode="align_corners", channels_last=True
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_both_runtimes_shrink_alike(kind: str) -> None:
    want = onnxruntime_function(CASES[kind], "y")({"x": X})
    if kind.startswith("cubic"):
        torchs = F.interpolate(torch.from_numpy(X), size=(4, 15), mode="bicubic", antialias=True)
        np.testing.assert_allclose(want, torchs.numpy(), rtol=0, atol=1e-5)
    graph = clean(CASES[kind], None)
    assert not [node for node in graph.graph if node.op_type == "Resize"]
    for name, function in RUNTIMES.items():
        got = function(ir.to_proto(graph.model), "y")({"x": X})
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5, err_msg=name)
    assert find_grid(graph, graph.graph.outputs[0], "y").shape == want.shape[1:]  # its cells lie in the image's order


def test_a_resize_that_grows_stays() -> None:
    model = resized("", "scales", mode="linear")
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(f32(1, 1, 2, 1.5), "scales"))
    assert [node.op_type for node in clean(model, None).graph] == ["Resize"]
