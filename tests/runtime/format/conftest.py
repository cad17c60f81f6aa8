"""A bundle to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ..conftest import Bundles


@pytest.fixture
def folder(bundles: Bundles, tmp_path: Path) -> Path:
    """A copy of a good bundle, to be spoilt."""
    copy = tmp_path / "spoilt.xai"
    shutil.copytree(bundles("pooled").path, copy)
    return copy
