"""The tests run against the wheels that `scripts/test` installs, not against the source tree beside them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import xai_exporters

import xai_deploy


@pytest.mark.skipif("XAI_TEST_WHEELS" not in os.environ, reason="not run by scripts/test")
def test_packages_come_from_the_wheels(root: Path) -> None:
    for package in (xai_deploy, xai_exporters):
        assert package.__file__ is not None
        assert "site-packages" in Path(package.__file__).parts
        assert (Path(package.__file__).parent / "py.typed").is_file()
    assert not list(Path(xai_deploy.__file__ or "").parent.parent.glob("tests"))


def test_public_names() -> None:
    assert set(xai_deploy.__all__) == {
        "Box",
        "Bundle",
        "Detection",
        "DetectionLimits",
        "Contrast",
        "Explainer",
        "Explanation",
        "Finer",
        "Like",
        "Manifest",
        "Not",
        "Region",
        "XaiError",
        "backend_names",
        "method_names",
        "read_image",
        "write_image",
    }
    assert all(hasattr(xai_deploy, name) for name in xai_deploy.__all__)
    assert set(xai_exporters.__all__) == {"Export", "ExportError", "Request", "export", "list_layers"}


def test_runtimes_are_imported_in_one_place(root: Path) -> None:
    """Elsewhere their telemetry would be on; see `xai_deploy.foundation.runtimes`."""
    found = [
        f"{path.relative_to(root)}:{number}"
        for folder in ("xai_deploy", "exporters/xai_exporters")
        for path in sorted((root / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.match(r"\s*(import|from) (onnxruntime|openvino)\b", line)
    ]
    assert found == []
