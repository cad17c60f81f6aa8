"""Experimental operators of ONNX's first opsets: the result is that of ONNX Runtime, which still runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from xai_exporters.passes.clean import clean
from xai_exporters.passes.old_opset import upgrade_old

from .. import nets
from .. import onnx_nets as o
from ..checks import close, onnxruntime
from ..running import export_onnx
from .test_fused import IMAGES

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Affine": ("Affine", {"alpha": 0.5, "beta": 0.3}),
    "Scale": ("Scale", {"scale": 0.7}),
    "ImageScaler": ("ImageScaler", {"scale": 2.0, "bias": [0.1, -0.2, 0.4]}),
    "ScaledTanh": ("ScaledTanh", {"alpha": 1.7, "beta": 0.7}),
    "ParametricSoftplus": ("ParametricSoftplus", {"alpha": 0.4, "beta": 2.0}),
    "ThresholdedRelu": ("ThresholdedRelu", {"alpha": 0.3}),
    "Crop": ("Crop", {"border": [1, 2, 3, 0]}),
    "Crop to a size": ("Crop", {"border": [1, 2, 0, 0], "scale": [5, 4]}),
    "MeanVarianceNormalization": ("MeanVarianceNormalization", {"across_channels": 0, "normalize_variance": 1}),
    "mean alone": ("MeanVarianceNormalization", {"across_channels": 1, "normalize_variance": 0}),
}


def network(name: str, opset: int) -> onnx.ModelProto:
    b = o.Build(opset)
    op, attributes = CASES[name]
    return b.model(b("Flatten", b(op, "image", **attributes), out="scores"))


@pytest.mark.parametrize("opset", [6, 8])
@pytest.mark.parametrize("name", CASES)
def test_same_result(name: str, opset: int) -> None:
    model = network(name, opset)
    graph = clean(upgrade_old(model), None)
    assert all(node.domain == "" for node in graph.graph)
    own, again = model.SerializeToString(), ir.to_proto(graph.model).SerializeToString()
    images = IMAGES if graph.reason is None else IMAGES[:1]
    close(onnxruntime(again, {"image": images})["scores"], onnxruntime(own, {"image": images})["scores"])


def test_a_slice() -> None:
    b = o.Build(9)
    at = [b.weight(np.array(v)) for v in ([1, -3], [9, 100], [2, 3])]
    model = b.model(b("Flatten", b("DynamicSlice", "image", *at), out="scores"))
    got = onnxruntime(ir.to_proto(clean(model, None).model).SerializeToString(), {"image": IMAGES})["scores"]
    np.testing.assert_array_equal(got, IMAGES[:, :, 1:9, -3:].reshape(3, -1))


@pytest.mark.parametrize("opset", [5, 8])
def test_a_file_of_core_mls_converter(opset: int, tmp_path: Path) -> None:
    b = o.Build(opset)
    x = b("ImageScaler", "image", scale=1 / 128, bias=[-0.5, -0.4, -0.6])
    x = b("ScaledTanh", b("Conv", x, b.draw(6, 3, 3, 3), pads=[1] * 4, name="layer"), alpha=1.7, beta=0.7)
    x = b("Reshape", b("GlobalAveragePool", x), b.weight([-1, 6]))
    done = export_onnx(tmp_path, b.model(b.linear(x, out="scores"), shape=("N", *nets.SHAPE)), split="layer_out")
    assert {"gradient", "relevance"} <= done.manifest.graphs.keys()
