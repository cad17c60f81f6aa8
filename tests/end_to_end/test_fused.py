"""The network in models/ as one file: exported by the command, run by ONNX Runtime and numpy alone, beside the other commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.server import command
from xai_deploy import Explainer, read_image
from xai_deploy.format.bundle import fused_role

METHODS = ("reciprocam", "cam", "grad-cam", "grad-cam++", "layer-cam", "hires-cam", "xgrad-cam", "relevance-cam", "lrp",
           "gradient", "integrated-gradients:steps=8", "score-cam")  # fmt: skip

# What a server or a script does with the file: nothing of ours, nothing of the exporters'.
ALONE = """
import json, pathlib, sys
import numpy as np, onnxruntime
bundle, images, result = map(pathlib.Path, sys.argv[1:])
found = {}
for file in sorted(bundle.glob("fused-*.onnx")):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [image] = session.get_inputs()
    outputs = [output.name for output in session.get_outputs()]
    for i, pixels in enumerate(np.load(images)):
        found |= {f"{file.stem}/{i}/{name}": v[0] for name, v in zip(outputs, session.run(outputs, {image.name: pixels[None]}))}
assert not {"xai_deploy", "xai_exporters", "onnx", "torch"} & set(sys.modules)
np.savez(result, **found)
"""


@pytest.fixture(scope="module")
def model(root: Path) -> Path:
    return root / "models" / "clutter_digits"


@pytest.fixture(scope="module")
def folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the bundle, all methods in it; 8-bit images in, maps of their size out, predicted class."""
    folder = tmp_path_factory.mktemp("fused")
    result = command(
        "xai-export", model / "clutter_digits.onnx", "--config", model / "export.toml", "--split", "stage3",
        "--input-gradient", "--pixel-relevance", "-o", "digits.xai",
        "--fuse", ",".join(METHODS), "--fixed-target", "--map-size", "input", "--embed-preprocess", cwd=folder,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    for method in METHODS:
        assert fused_role(method.partition(":")[0]) in result.stdout
    return folder


@pytest.fixture(scope="module")
def entries(model: Path) -> list[dict[str, object]]:
    return list(json.loads((model / "samples" / "boxes.json").read_text()))


@pytest.fixture(scope="module")
def found(folder: Path, model: Path, entries: list[dict[str, object]]) -> dict[str, np.ndarray]:
    """What the files give for the samples, in a process that knows no xai-deploy: "ROLE/NUMBER/OUTPUT" -> array."""
    np.save(folder / "images.npy", np.stack([read_image(model / "samples" / str(e["image"])) for e in entries]))
    (folder / "alone.py").write_text(ALONE, encoding="utf-8")
    run = [sys.executable, "-I", "alone.py", "digits.xai", "images.npy", "maps.npz"]
    result = subprocess.run(run, capture_output=True, text=True, cwd=folder, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    with np.load(folder / "maps.npz") as maps:
        return dict(maps)


@pytest.mark.parametrize("asked", METHODS)
def test_maps_are_the_engines(
    folder: Path, found: dict[str, np.ndarray], model: Path, entries: list[dict[str, object]], asked: str
) -> None:
    method = asked.partition(":")[0]
    explainer = Explainer(folder / "digits.xai")
    options = {"steps": 8} if ":" in asked else {}
    images = [read_image(model / "samples" / str(e["image"])) for e in entries]
    e = explainer.explain(images, method, **options)
    for i, entry in enumerate(entries):
        saliency = found[f"fused-{method}/{i}/saliency_map"]
        np.testing.assert_allclose(saliency, e.heatmap[i], rtol=0, atol=1e-4)
        [scores] = [v for k, v in found.items() if k.startswith(f"fused-{method}/{i}/") and "saliency" not in k]
        assert explainer.labels[int(scores.argmax())] == entry["label"]


@pytest.mark.parametrize("method", ["reciprocam", "grad-cam", "relevance-cam", "score-cam"])
def test_maps_lie_on_the_digits(found: dict[str, np.ndarray], entries: list[dict[str, object]], method: str) -> None:
    for i, entry in enumerate(entries):
        saliency = found[f"fused-{method}/{i}/saliency_map"]
        y, x = np.unravel_index(int(saliency.argmax()), saliency.shape)
        left, top, right, bottom = np.array(entry["box"])
        assert left - 4 <= x <= right + 4  # by half a cell of the 8 x 8 map
        assert top - 4 <= y <= bottom + 4


def test_other_commands_take_such_a_bundle(folder: Path, model: Path) -> None:
    sample = sorted((model / "samples").glob("*.png"))[0]
    explained = command("xai-explain", "digits.xai", sample, "--method", "grad-cam", "-o", "out", cwd=folder)
    assert explained.returncode == 0, explained.stderr
    checked = command("xai-check", "digits.xai", "digits.xai", sample, cwd=folder)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    bench = ["digits.xai", "--method", "reciprocam", "--runs", "1", "--warmup", "1", "--no-memory"]
    measured = command("xai-bench", *bench, cwd=folder)
    assert measured.returncode == 0, measured.stderr
    for result in (explained, checked, measured):
        assert "Traceback" not in result.stderr


def test_refusal(folder: Path, model: Path) -> None:
    before = sorted(folder.iterdir())
    result = command(
        "xai-export",
        model / "clutter_digits.onnx",
        "--split",
        "stage2",
        "--preprocess",
        "none",
        "--fuse",
        "cam",
        "-o",
        "no.xai",
        cwd=folder,
    )
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("xai-export: error: --fuse cam: CAM is defined only if")
    assert sorted(folder.iterdir()) == before
