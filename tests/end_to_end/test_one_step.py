"""Model files in place of bundles: against bundles that are exported by hand. One test uses the installed xai-export."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from xai_exporters import Request, export
from xai_exporters.config import load_config

from tests.support import server
from xai_deploy import Explainer, read_image, write_image
from xai_deploy.cli import bench, check, evaluate, explain
from xai_deploy.exported import program
from xai_deploy.exported.private_folder import FOLDER

from ..runtime.conftest import backend

__all__ = ["backend"]

INSTALLED = program.find
SAMPLES = 3
ARCH = """
import torch
from width import WIDTH

def build():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, WIDTH, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 4))
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with digits.onnx, digits.toml and photos/; a cache of the test's own; an xai-export that is forked."""
    monkeypatch.setattr(program, "find", lambda source: server.programs() / program.NAME)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    network = root / "models" / "clutter_digits"
    shutil.copy(network / "clutter_digits.onnx", "digits.onnx")
    shutil.copy(network / "export.toml", "digits.toml")
    shutil.copy(network / "labels.txt", "labels.txt")
    Path("photos").mkdir()
    for photo in sorted((network / "samples").glob("*.png"))[:SAMPLES]:
        shutil.copy(photo, "photos")
    return tmp_path


def made() -> int:
    """How many bundles there are in the cache."""
    return len(os.listdir("cache"))


def test_the_same_maps_as_in_two_steps(backend: str) -> None:
    methods = ["cam", "lrp", "guided-grad-cam", "reciprocam"]
    arguments = ["digits.onnx", "photos", "--config", "digits.toml", "--split", "auto", "-b", backend, "-q"]
    assert explain.main([*arguments, "-m", ",".join(methods), "-o", "out"]) == 0
    by_hand = {"output_path": Path("digits.xai"), "split": "auto", "pixel_relevance": True, "guided": True}
    request = Request(Path("digits.onnx"), **{**load_config(Path("digits.toml")), **by_hand})
    explainer = Explainer(export(request).path, backend)
    report = json.loads(Path("out/results.json").read_bytes())
    assert report["bundle"]["path"] == "digits.onnx"
    assert len(report["images"]) == SAMPLES
    for image in report["images"]:
        wanted = explainer.explain_many(read_image(image["file"]), methods)
        for entry, explanation in zip(image["explanations"], wanted, strict=True):
            np.testing.assert_allclose(np.load(f"out/{entry['raw']}"), explanation.raw[0], atol=1e-5)
        assert image["prediction"][0]["label"] in Path("labels.txt").read_text()


def test_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("digits.onnx", "again.onnx")
    options = ["--config", "digits.toml", "-q"]
    assert check.main(["digits.onnx", "again.onnx", "photos", *options, "--json", "check.json"]) == 0
    assert made() == 2
    assert json.loads(Path("check.json").read_bytes())["passed"] is True
    assert check.main(["--record", "digits.npz", "digits.onnx", "photos", *options]) == 0
    assert check.main(["digits.npz", "again.onnx", "photos", *options]) == 0
    bundle = next(Path("cache").glob("*/*/digits.xai"))
    shutil.copytree(bundle, "digits.xai")
    assert check.main(["digits.xai", "again.onnx", "photos", *options]) == 0  # the options are those of the model file
    assert (
        bench.main(
            ["digits.onnx", "digits.xai", *options, "-m", "cam", "--runs", "1", "--no-memory", "--json", "b.json"]
        )
        == 0
    )
    assert len(json.loads(Path("b.json").read_bytes())["bundles"]) == 2
    assert evaluate.main(["again.onnx", "photos", *options, "-m", "cam", "--metrics", "deletion", "-o", "e"]) == 0
    assert made() == 2
    assert capsys.readouterr().err == ""


def test_sets_of_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "find", INSTALLED)
    assert explain.main(["digits.onnx", "photos", "--config", "digits.toml", "-m", "fast", "-q", "-o", "out"]) == 0
    report = json.loads(Path("out/results.json").read_bytes())
    methods = {entry["method"] for image in report["images"] for entry in image["explanations"]}
    assert {"cam", "lrp", "gradient", "guided-backprop", "relevance-cam"} <= methods


def test_weights_with_an_architecture(capsys: pytest.CaptureFixture[str]) -> None:
    Path("nets.py").write_text(ARCH)
    Path("width.py").write_text("WIDTH = 5")
    layers: list[torch.nn.Module] = [
        torch.nn.Conv2d(3, 5, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    ]
    torch.save(torch.nn.Sequential(*layers, torch.nn.Linear(5, 4)).state_dict(), "net.pth")
    arguments = [
        "net.pth",
        "photos",
        "--input-shape",
        "3,20,24",
        "--preprocess",
        "tf",
        "-o",
        "out",
        "--overwrite",
        "-q",
    ]
    arguments += ["--arch", "nets:build", "--split", "1"]
    assert explain.main(arguments) == 0, capsys.readouterr().err
    (record,) = Path("cache").glob("*/*/record.json")
    assert set(json.loads(record.read_bytes())["reads"]) == {"nets.py", "width.py"}
    Path("width.py").write_text("WIDTH = 6")  # imported by the architecture alone
    assert explain.main(arguments) == 2
    assert capsys.readouterr().err.startswith("xai-explain: error: nets:build(num_classes=5) can't be built")
    Path("width.py").write_text("WIDTH = 5")
    assert explain.main(arguments) == 0
    assert len(list(Path("cache").glob("*/*/net.xai"))) == 1


def test_external_data(backend: str) -> None:
    model = onnx.load("digits.onnx")
    options: dict[str, Any] = {"save_as_external_data": True, "size_threshold": 1024}  # the weights, without the shapes
    onnx.save_model(model, "big.onnx", location="big.data", **options)
    first = Explainer("big.onnx", backend, export={"preprocess": "none"})
    data = bytearray(Path("big.data").read_bytes())
    second = np.frombuffer(data, np.float32) * np.float32(0.5)
    Path("big.data").write_bytes(second.tobytes())
    image = read_image(sorted(Path("photos").iterdir())[0])
    other = Explainer("big.onnx", backend, export={"preprocess": "none"})
    assert np.abs(first.predict(image) - other.predict(image)).max() > 1e-3


def test_trust_is_passed_on_and_never_implied(capsys: pytest.CaptureFixture[str]) -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    torch.save(module, "module.pt")
    arguments = ["module.pt", "photos", "--input-shape", "3,20,24", "--preprocess", "none", "-o", "out", "-q"]
    assert explain.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("xai-explain: error: module.pt: ")
    assert "--trust-code" in error
    assert error.count("\n") == 1
    assert explain.main([*arguments, "--trust-code"]) == 0
    assert explain.main([*arguments, "--overwrite"]) == 2  # what was trusted once is not trusted for ever


def test_a_file_that_is_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("no network")
    write_image("photo.png", np.zeros((8, 9, 3), np.uint8))
    assert explain.main(["notes.txt", "photo.png"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("xai-explain: error: notes.txt: damaged, or no network that xai-export reads")
    assert error.count("\n") == 1
