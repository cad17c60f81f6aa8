"""Networks through which no gradient passes: nobody is advised to ask for what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters.errors import RuleError

from xai_deploy import method_names
from xai_deploy.errors import NotApplicableError
from xai_deploy.methods.method import create, require_roles

from .. import onnx_nets as o
from ..running import export_onnx

ASKED: dict[str, dict[str, Any]] = {
    "gradient": {"roles": ("gradient",)},
    "input-gradient": {"input_gradient": True},
    "guided-gradient": {"guided": True},
    "full-gradient": {"full_gradient": True},
    "relevance": {"roles": ("relevance",)},
    "pixel-relevance": {"pixel_relevance": True},
}
"""Every graph that propagates back, and how it is asked for."""


def network() -> onnx.ModelProto:
    """What is before the last layer is rounded, by an operator that is no quantiser."""
    b = o.Build()
    rounded = b("Floor", b("Mul", b.pooled(b.features()), b.weight(np.float32(16))))
    return b.model(b.linear(rounded, out="scores"))


def test_every_graph_that_is_refused_is_recorded_as_left_out(tmp_path: Path) -> None:
    model = network()
    done = export_onnx(tmp_path, model, split="layer")
    assert set(done.manifest.left_out) == set(ASKED)
    for role, options in ASKED.items():
        with pytest.raises(RuleError, match="Floor") as refused:
            export_onnx(tmp_path, model, split="layer", overwrite=True, **options)
        assert str(refused.value) == done.manifest.left_out[role]
    for name in method_names():
        for role in create(name, {}).roles:
            if role in ASKED:
                with pytest.raises(NotApplicableError, match="lets nothing through") as error:
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
    done = export_onnx(tmp_path, network(), split="layer", overwrite=True, all_graphs=True)
    assert set(done.manifest.graphs) == {"head", "tail"}
    assert set(done.manifest.left_out) == set(ASKED)
