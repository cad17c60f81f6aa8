"""Networks through which no gradient passes: nobody is advised to ask for what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from xai_exporters.errors import GraphError, RuleError

from xai_deploy import method_names
from xai_deploy.errors import NotApplicableError
from xai_deploy.methods.method import create, require_roles

from .. import onnx_nets as o
from ..running import export_onnx

ASKED: dict[str, dict[str, Any]] = {
    "gradient": {"roles": ("gradient",)},
    "input-gradient": {"input_gradient": True},
    "guided-gradient": {"guided": True},
    "relevance": {"roles": ("relevance",)},
    "pixel-relevance": {"pixel_relevance": True},
}
"""Every graph that propagates back, and how it is asked for."""


def quantised(convolutions: bool) -> onnx.ModelProto:
    """As quantize_dynamic writes it: the linear layer in integers, the last convolution before it, too."""
    b = o.Build()
    x = b.features()
    if convolutions:
        x = b("Relu", _in_integers(b, "ConvInteger", x, (4, o.CHANNELS, 3, 3)))
    pooled = b.pooled(x)
    scores = _in_integers(b, "MatMulInteger", pooled, (4 if convolutions else o.CHANNELS, 5))
    return b.model(b("Identity", scores, out="scores"))


def _in_integers(b: o.Build, op: str, x: str, shape: tuple[int, ...]) -> str:
    codes, scale, zero = (f"{x}/{part}" for part in ("codes", "scale", "zero"))
    b.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], [codes, scale, zero]))
    weight = np.random.default_rng(2).integers(-128, 128, shape).astype(np.int8)
    product = b("Cast", b(op, codes, b.weight(weight), zero), to=o.FLOAT)
    return b("Mul", product, b("Mul", scale, b.weight(np.float32(0.01))))


@pytest.mark.parametrize("convolutions", [True, False])
def test_every_graph_that_is_refused_is_recorded_as_left_out(tmp_path: Path, convolutions: bool) -> None:
    model = quantised(convolutions)
    done = export_onnx(tmp_path, model, split="layer")
    assert set(done.manifest.left_out) == set(ASKED)
    for role, options in ASKED.items():
        with pytest.raises(RuleError, match="DynamicQuantizeLinear") as refused:
            export_onnx(tmp_path, model, split="layer", overwrite=True, **options)
        assert str(refused.value) == done.manifest.left_out[role]
    for name in method_names():
        for role in create(name, {}).roles:
            if role in ASKED:
                with pytest.raises(NotApplicableError, match="no gradient passes") as error:
                    require_roles(name, create(name, {}), done.manifest)
                assert "export the network again" not in str(error.value)


def test_what_can_be_asked_for_is_not_left_out(tmp_path: Path) -> None:
    """No gradient passes from the logits to the layer, but one does beside it to the image."""
    b = o.Build()
    stem = b("Relu", b.conv("image", 3, o.CHANNELS))
    layer = b("Sigmoid", b.conv(stem, o.CHANNELS, o.CHANNELS), name="layer")
    model = b.model(b.linear(b.pooled(b("Add", stem, b("Floor", layer))), out="scores"))
    done = export_onnx(tmp_path, model, split="layer")
    assert "gradient" in done.manifest.left_out
    assert "input-gradient" not in done.manifest.left_out
    assert "input-gradient" not in done.manifest.graphs
    again = export_onnx(tmp_path, model, split="layer", overwrite=True, input_gradient=True)
    assert "input-gradient" in again.manifest.graphs


def test_all_graphs_are_those_that_the_network_allows(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, o.classifier(), all_graphs=True)
    assert set(done.manifest.graphs) == {"head", "tail", "pixelwise-tail", *ASKED}
    done = export_onnx(tmp_path, quantised(False), split="layer", overwrite=True, all_graphs=True)
    assert set(done.manifest.graphs) == {"head", "tail"}
    assert set(done.manifest.left_out) == set(ASKED)


@pytest.mark.parametrize("method", ["reciprocam", "score-cam"])
def test_fusing_does_not_advise_what_is_refused(tmp_path: Path, method: str) -> None:
    with pytest.raises(GraphError, match="runtime engine") as error:
        export_onnx(tmp_path, quantised(True), split="layer", fuse=(method,))
    assert "fuse another method" not in str(error.value)
    for other in ("grad-cam", "lrp", "integrated-gradients", "cam"):
        with pytest.raises(GraphError, match=f"--fuse {other}: "):
            export_onnx(tmp_path, quantised(True), split="layer", fuse=(other,))
