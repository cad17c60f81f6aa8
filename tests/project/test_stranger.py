"""Law 2: a stranger adds one file, and its test; no list is edited.

Each folder of `strangers/` holds a file and `check.py`. The file is laid into a folder outside the project, which is put on the
path of the package that it extends. Then the check runs in a process of its own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from xai_exporters import Request, export

from tests.exporters import onnx_nets
from tests.support import server
from xai_deploy import write_image

STRANGERS = Path(__file__).with_name("strangers")
PACKAGES = {
    "gradient": "xai_exporters.vjp",
    "relevance": "xai_exporters.relevance",
    "rule": "xai_exporters.relevance",
    "method": "xai_deploy.methods",
    "backend": "xai_deploy.backends",
    "source": "xai_exporters.sources",
    "target": "xai_deploy.targets",
    "metric": "xai_deploy.evaluation.metrics",
    "role": "xai_exporters.roles",
    "colormap": "xai_deploy.pictures.colormaps",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, its bundle, and three pictures."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "net.onnx").write_bytes(onnx_nets.classifier().SerializeToString())
    export(Request(folder / "net.onnx", preprocess="none", output_path=folder / "net.xai"))
    (folder / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        write_image(folder / "photos" / f"{number}.png", pixels)
    return folder


def run(kind: str, desk: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the check of a kind, the folder on its package's path."""
    return server.run("tests.project.on_path", PACKAGES[kind], folder, STRANGERS / kind / "check.py", cwd=desk)


@pytest.mark.parametrize("kind", PACKAGES)
def test_one_file(kind: str, desk: Path, tmp_path: Path) -> None:
    [added] = [file for file in (STRANGERS / kind).glob("*.py") if file.name != "check.py"]
    without = run(kind, desk, tmp_path)
    assert without.returncode == 1, "the check passes without the file"
    shutil.copy(added, tmp_path)
    result = run(kind, desk, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_stranger_is_tried() -> None:
    assert {folder.name for folder in STRANGERS.iterdir() if any(folder.glob("*.py"))} == set(PACKAGES)


def test_the_document_names_the_folders(root: Path) -> None:
    """Where docs/architecture.md sends a stranger is where the file is added here."""
    text = (root / "docs/architecture.md").read_text(encoding="utf-8")
    for package in PACKAGES.values():
        folder = package.replace(".", "/")
        assert f"{'exporters/' if package.startswith('xai_exporters') else ''}{folder}/` | " in text, package
