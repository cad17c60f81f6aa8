"""Each reason of a constant map, from networks that have it by construction, at export and at run time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from xai_deploy import Explainer
from xai_deploy.constant_maps import INACTIVE, INDEPENDENT, NEGATIVE, SATURATED

from . import nets
from . import onnx_nets as o
from .running import export_onnx

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
    if kind == INACTIVE:
        assert set(done.dead.values()) <= {INACTIVE}
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend=backend)
        found = explainer.explain(IMAGES, "grad-cam")
        assert not found.raw.any()
        assert found.constant == (kind, kind), backend


def test_a_map_that_varies_has_none(tmp_path: Path) -> None:
    explainer = Explainer(export_onnx(tmp_path, o.classifier()).path)
    assert explainer.explain(IMAGES, "relevance-cam").constant == (None, None)
