"""Law 1: the runtime's wheel, numpy, one inference runtime and OpenCV are enough for every method, and torch and onnx are
not even there; the core imports with numpy alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from xai_exporters import Request, export

from xai_deploy import write_image

RUN = """
import sys
for name in ("torch", "onnx", "onnx_ir", "onnxscript", "xai_exporters"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} is importable")
import numpy as np
import xai_deploy
bundle, backend, image = sys.argv[1:]
explainer = xai_deploy.Explainer(bundle, backend)
images = [xai_deploy.read_image(image)]
few = {"masks": 64, "samples": 100, "iterations": 2}  # thousands would show no more
per_channel = {"ss-cam": {"samples": 2}, "is-cam": {"samples": 2}}
methods = [
    (name, per_channel.get(name) or {key: few[key] for key in few if hasattr(xai_deploy.methods.create(name, {}), key)})
    for name in explainer.methods()
]
assert set(xai_deploy.method_names()) - {"own-map", "class-map"} == {name for name, _ in methods}
for e in explainer.explain_many(images, methods, [-1, 3]):
    assert e.heatmap.shape == (1, 64, 64) and 0 <= e.heatmap.min() <= e.heatmap.max() <= 1, e.method
    print(e.method, int(e.target[0]))
"""


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: another worker may be building from the same tree
    shutil.copytree(root / "xai_deploy", source / "xai_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "scripts").mkdir()
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "scripts/links.py"):
        shutil.copy(root / file, source / file)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def environment(folder: Path, *packages: str) -> Path:
    """A new virtual environment with these packages; returns its Python."""
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if packages:
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", *packages],
            check=True,
        )
    return python


def test_core_imports_with_numpy_alone(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", str(wheel))
    code = "import xai_deploy, xai_deploy.cli.explain; print(*xai_deploy.method_names())"
    result = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    assert {"reciprocam", "score-cam", "cam"} <= set(result.stdout.split())
    listing = [sys.executable, "-m", "pip", "--python", str(python), "list", "--format=freeze"]
    installed = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    assert {line.split("==")[0] for line in installed.split()} == {"numpy", "xai-deploy"}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_every_method_without_training_packages(root: Path, wheel: Path, tmp_path: Path, backend: str) -> None:
    source = root / "models" / "clutter_digits" / "clutter_digits.onnx"
    request = Request(
        source,
        output_path=tmp_path / "digits.xai",
        preprocess="imagenet",
        input_gradient=True,
        guided=True,
        full_gradient=True,
        pixel_relevance=True,
    )
    bundle = export(request).path
    write_image(tmp_path / "image.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    python = environment(tmp_path / "venv", f"{wheel}[{backend}]", "opencv-python-headless")
    command = [str(python), "-c", RUN, str(bundle), backend, str(tmp_path / "image.png")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    assert "score-cam 3" in result.stdout.splitlines()
    script = python.parent / "xai-explain"
    command = [str(script), str(bundle), str(tmp_path / "image.png"), "--method", "cam", "-o", str(tmp_path / "out")]
    result = subprocess.run([*command, "--backend", backend], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "results.json").is_file()
    check = [str(python.parent / "xai-check"), "-m", "reciprocam,grad-cam"]
    digits, image = str(bundle), str(tmp_path / "image.png")
    for arguments in (
        [digits, digits, image, "--reference-backend", backend, "-b", backend],
        ["--record", "reference.npz", digits, image, "--reference-backend", backend],
        ["reference.npz", digits, image, "-b", backend, "--json", "report.json"],
    ):
        result = subprocess.run([*check, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (result.returncode, result.stderr) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"] is True
    assert report["reference"]["runtime"] == f"{backend} on cpu, f32"
    assert report["images"][0]["top_overlap"] == {"reciprocam": 1, "grad-cam": 1}
