"""Networks to hold beside each other, and photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xai_deploy import write_image

from ... import small


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, and others that differ from it in one respect each."""
    folder = tmp_path_factory.mktemp("nets")
    small.write(folder / "net.xai")
    small.write(folder / "larger.xai", size=(48, 64))
    small.write(folder / "near.xai", noise=0.002)
    small.write(folder / "far.xai", seed=3)
    small.write(folder / "five.xai", classes=5)
    small.write(folder / "one.xai", classes=1, activation="Sigmoid")
    small.write(folder / "sigmoid.xai", activation="Sigmoid")
    small.write(folder / "forward.xai", roles=("pixelwise-tail",))
    return folder


@pytest.fixture
def here(nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The networks, as links, and `photos` of four images; the working directory."""
    monkeypatch.chdir(tmp_path)
    for bundle in nets.glob("*.xai"):
        (tmp_path / bundle.name).symlink_to(bundle)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(3)
    for i in range(4):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{i}.png", coarse.repeat(8, axis=0).repeat(8, axis=1))
    return tmp_path
