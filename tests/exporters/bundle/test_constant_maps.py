"""Each reason of a constant map, from networks that have it by construction, at export and at run time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from xai_deploy import Explainer
from xai_deploy.constant_maps import CUT_OFF, INACTIVE, INDEPENDENT, NEGATIVE, SATURATED

from .. import nets
from .. import onnx_nets as o
from ..running import export_onnx

IMAGES = np.random.default_rng(0).standard_normal((2, *nets.SHAPE)).astype(np.float32)


def network(kind: str) -> onnx.ModelProto:
    b = o.Build()
    if kind == INACTIVE:
        x = b("Relu", b("Sub", b.features(), b.weight(np.float32(1e6))), name="cut")
    else:
        x = b("Relu", b("Add", b.features(), b.weight(np.float32(0.1))), name="cut")
    pooled = b.pooled(x)
    weight = np.abs(b.rng.standard_normal((o.CHANNELS, nets.CLASSES))).astype(np.float32)
    if kind == INDEPENDENT:
        pooled = b("Mul", pooled, b.weight(np.zeros(1, np.float32)))
    if kind == SATURATED:  # all pass the bound; zeros in their place would not
        pooled = b(
            "Clip", b("Mul", pooled, b.weight(np.float32(1e4))), b.weight(np.float32(0)), b.weight(np.float32(6))
        )
    if kind == NEGATIVE:
        weight = -weight
    bias = b.weight(np.arange(nets.CLASSES, dtype=np.float32))
    return b.model(b("Gemm", pooled, b.weight(weight), bias, out="scores"))


@pytest.mark.parametrize("kind", [INACTIVE, INDEPENDENT, SATURATED, NEGATIVE])
def test_reasons(tmp_path: Path, kind: str) -> None:
    done = export_onnx(tmp_path, network(kind), split="cut")
    if kind in (INDEPENDENT, SATURATED):
        assert done.dead["gradient"] == kind
    else:
        assert done.dead == {"relevance": kind}  # a gradient that is not zero meets no relevance, or only negative
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend=backend)
        found = explainer.explain(IMAGES, "grad-cam")
        assert not found.raw.any()
        assert found.constant == (kind, kind), backend


def test_what_does_not_reach_the_layer(tmp_path: Path) -> None:
    """The image is clipped to two values: the layer differs from position to position, and the gradient at the pixels is 0."""
    b = o.Build()
    ends = b.weight(np.float32(0)), b.weight(np.float32(6))
    clipped = b("Clip", b("Mul", "image", b.weight(np.float32(1e9))), *ends)
    x = b("Relu", b("Add", b.features(clipped), b.weight(np.float32(0.1))), name="cut")
    model = b.model(b.linear(b.pooled(x), out="scores"))
    done = export_onnx(tmp_path, model, split="cut", input_gradient=True, roles=("gradient",))
    assert done.dead == {"input-gradient": CUT_OFF}
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend)
        for method in ("gradient", "input-x-gradient"):
            assert explainer.explain(IMAGES, method, 1).constant == (CUT_OFF,) * 2, (backend, method)


def test_a_map_that_varies_has_none(tmp_path: Path) -> None:
    explainer = Explainer(export_onnx(tmp_path, o.classifier()).path)
    assert explainer.explain(IMAGES, "relevance-cam").constant == (None, None)


def test_only_other_classes_depend(tmp_path: Path) -> None:
    b = o.Build()
    pooled = b.pooled(b("Relu", b.features(), name="cut"))
    weight = np.zeros((o.CHANNELS, nets.CLASSES), np.float32)
    weight[:, 0] = 1e-3
    bias = b.weight(np.arange(nets.CLASSES, dtype=np.float32))
    done = export_onnx(tmp_path, b.model(b("Gemm", pooled, b.weight(weight), bias, out="scores")), split="cut")
    last = nets.CLASSES - 1
    for backend in ("onnxruntime", "openvino"):
        assert Explainer(done.path, backend).explain(IMAGES, "grad-cam", target=last).constant == (INDEPENDENT,) * 2
        assert Explainer(done.path, backend).explain(IMAGES, "grad-cam", target=0).constant == (None, None)


def test_what_only_large_activations_show(tmp_path: Path) -> None:
    """A unit behind the layer that wakes up far beyond these images: flat here, not independent."""
    b = o.Build()
    pooled = b.pooled(b("Relu", b.features(), name="cut"))
    asleep = b("Relu", b("Sub", pooled, b.weight(np.float32(50))))
    weight = b.weight(np.ones((o.CHANNELS, nets.CLASSES), np.float32))
    bias = b.weight(np.arange(nets.CLASSES, dtype=np.float32))
    done = export_onnx(tmp_path, b.model(b("Gemm", asleep, weight, bias, out="scores")), split="cut")
    assert Explainer(done.path).explain(IMAGES, "grad-cam").constant == (SATURATED, SATURATED)
