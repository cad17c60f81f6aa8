"""Bundles written once per session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch

from xai_deploy import Explainer

from . import tiny

torch.set_num_threads(1)  # the oracles are tiny, and its threads would fight with the runtimes'

Bundles: TypeAlias = Callable[..., tiny.Tiny]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """kind, pixelwise -> the tiny bundle; not to be changed by a test."""
    written: dict[tuple[tiny.Kind, bool], tiny.Tiny] = {}

    def get(kind: tiny.Kind = "pooled", pixelwise: bool = True) -> tiny.Tiny:
        if (kind, pixelwise) not in written:
            folder = tmp_path_factory.mktemp("bundles") / f"{kind}.xai"
            written[kind, pixelwise] = tiny.write(folder, kind, pixelwise=pixelwise)
        return written[kind, pixelwise]

    return get


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend's name."""
    return str(request.param)


@pytest.fixture
def explainer(bundles: Bundles) -> Explainer:
    """The pooled network on ONNX Runtime."""
    return Explainer(bundles("pooled").path, "onnxruntime")
