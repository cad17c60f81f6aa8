"""Bundles written once per session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from xai_deploy import Explainer, Explanation, write_image
from xai_deploy.format.bundle import Preprocess

from . import tiny
from .photos import photos

torch.set_num_threads(1)  # the oracles are tiny, and its threads would fight with the runtimes'

Bundles: TypeAlias = Callable[..., tiny.Tiny]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """kind, pixelwise -> the tiny bundle; not to be changed by a test."""
    written: dict[tuple[tiny.Kind, bool, bool], tiny.Tiny] = {}

    def get(kind: tiny.Kind = "pooled", pixelwise: bool = True, gradients: bool = False) -> tiny.Tiny:
        key = kind, pixelwise, gradients
        if key not in written:
            folder = tmp_path_factory.mktemp("bundles") / f"{kind}.xai"
            written[key] = tiny.write(folder, kind, pixelwise=pixelwise, gradients=gradients)
        return written[key]

    return get


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend's name."""
    return str(request.param)


@pytest.fixture
def explainer(bundles: Bundles) -> Explainer:
    """The pooled network on ONNX Runtime."""
    return Explainer(bundles("pooled").path, "onnxruntime")


@pytest.fixture
def work(bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `net.xai` and `photos` of three images, two of them with one stem; the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundles("pooled").path, tmp_path / "net.xai")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("cat.png", (40, 50, 3)), ("cat.bmp", (64, 64, 3)), ("dog.png", (300, 400, 3))):
        write_image(tmp_path / "photos" / name, rng.integers(0, 256, shape, dtype=np.uint8))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image")
    return tmp_path


@pytest.fixture(scope="session")
def cropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that sees the centre of the photo."""
    how = Preprocess(resize=26, scale=tiny.SCALE)
    return tiny.write(tmp_path_factory.mktemp("cropping") / "net.xai", preprocess=how).path


@pytest.fixture
def made(cropping: Path) -> Explanation:
    """One class, the other direction, a contrast and the predicted class of five odd photos, by CAM."""
    return Explainer(cropping, "onnxruntime", batch_size=2).explain(photos(), "cam", [0, 1, "not 2", "0 vs 3", None])
