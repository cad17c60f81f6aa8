"""Every method with every value of its options is the runtime engine's map, on both runtimes and in ONNX's own evaluator."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from xai_exporters.roles.fuse.fused_method import fused

from tests.exporters import onnx_nets as o
from xai_deploy.methods.method import methods

from .harness import METHODS, ORT, RUNTIMES, TARGETS, Fused, check, evaluator, fuse_onnx, variants
from .networks import LINEAR, OTHER, POOLED, network

RECIPROCAM = variants("reciprocam", product=True)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Fused:
    """All methods with all options."""
    asked = [text for name in METHODS for text in (RECIPROCAM if name == "reciprocam" else variants(name))]
    return fuse_onnx(tmp_path_factory.mktemp("linear"), o.classifier(), *asked)


@pytest.mark.parametrize("name", METHODS)
def test_options_are_the_engines(name: str) -> None:
    """Named as there, with the same defaults, and what is not there can't be asked for."""
    classes: tuple[Any, Any] = fused.get(name), methods.get(name)
    here, there = ({f.name: f.default for f in dataclasses.fields(cls)} for cls in classes)
    assert here.items() <= there.items()


@pytest.mark.parametrize("name", METHODS)
def test_every_option(linear: Fused, name: str) -> None:
    mine = [text for text in linear.files if text.partition(":")[0] == name]
    assert mine
    for asked in mine:
        check(linear, asked, runtimes=RUNTIMES if asked == name else ORT)


@pytest.mark.parametrize("name", METHODS)
def test_reference_evaluator(linear: Fused, name: str) -> None:
    check(linear, name, TARGETS[1:], {evaluator: 1e-5})


ON_OPENVINO = ("convolution behind the pooling", "channels last", "hidden layer, ReLU", "flattened")
TAILS = {**LINEAR, **POOLED, **OTHER}


@pytest.mark.parametrize("tail", TAILS)
def test_tails(tmp_path: Path, tail: str) -> None:
    asked = ["grad-cam", *RECIPROCAM, *(variants("cam") if tail in LINEAR else [])]
    if tail in ("bias of the pooled", "bias of the activation"):  # no relevance rule, no matter here
        asked = RECIPROCAM
    case = fuse_onnx(tmp_path, network(TAILS[tail]), *asked)
    for text in asked:
        check(case, text)
    if tail in ON_OPENVINO:
        check(case, "reciprocam", TARGETS[2:], RUNTIMES)


@pytest.mark.parametrize("tail", ["hidden layer, ReLU", "convolutions, then pooling"])
def test_methods_behind_a_hidden_layer(tmp_path: Path, tail: str) -> None:
    """What the linear tail can't show: relevance and gradients that differ between images and positions."""
    asked = [name for name in METHODS if name not in ("cam", "reciprocam")]
    case = fuse_onnx(tmp_path, network(TAILS[tail]), *asked)
    for text in asked:
        check(case, text, runtimes=RUNTIMES if text in ("lrp", "relevance-cam") else ORT)
