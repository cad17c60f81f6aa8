"""xai-evaluate on the network in models/, as its user would run it: against its true boxes, and with random weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import server
from xai_deploy import Explainer, read_image

STEPS = 4
METHODS = ("cam", "grad-cam", "reciprocam", "relevance-cam", "gradient")


def command(name: str, *arguments: object, cwd: Path) -> str:
    """Run a command; its standard output."""
    result = server.command(name, *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def work(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network's bundle, its randomised ones, and its boxes as csv."""
    folder, model = tmp_path_factory.mktemp("evaluate"), root / "models" / "clutter_digits"
    config = ["--config", model / "export.toml", "--split", "stage3", "--input-gradient"]
    command("xai-export", model / "clutter_digits.onnx", *config, "--randomise", STEPS, "-o", "digits.xai", cwd=folder)
    with (folder / "boxes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "left", "top", "right", "bottom", "label"])
        for entry in json.loads((model / "samples" / "boxes.json").read_text()):
            writer.writerow([entry["image"], *entry["box"], entry["label"]])
    return folder


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_maps_lie_on_the_digits_and_depend_on_the_weights(work: Path, root: Path, backend: str) -> None:
    images = root / "models" / "clutter_digits" / "samples"
    metrics = "energy-pointing,argmax-pointing,iou,sanity,average-drop"
    choices = ["--boxes", "boxes.csv", "--boxes-of", "class", "--backend", backend, "-o", backend]
    asked = [images, "--method", ",".join(METHODS), "--metrics", metrics]
    shown = command("xai-evaluate", "digits.xai", *asked, *choices, cwd=work)
    assert "energy-pointing" in shown
    assert "those of the class explained" in shown
    report: dict[str, Any] = json.loads((work / backend / "results.json").read_text())
    figures = {entry["method"]: entry["figures"] for entry in report["results"]}
    assert set(figures) == set(METHODS)
    assert report["images"] == len(list(images.glob("*.png")))
    for method in METHODS:
        found = {name: figure["mean"] for name, figure in figures[method].items()}
        assert found["energy-pointing"] > 2 * found["energy-uniform"], method
        assert found["argmax-pointing"] > 0.7, method
        # half of the layers random: little is left of the trained network's map
        assert found["sanity-2"] < 0.75, method
        assert {f"sanity-{step + 1}" for step in range(STEPS)} <= set(found) | {"sanity-4"}
    # by hand, from the map itself: the first image's energy in its box
    explainer = Explainer(work / "digits.xai", backend)
    heat = explainer.explain(read_image(images / "00_zero.png"), "grad-cam").heatmap[0]
    left, top, right, bottom = json.loads((images / "boxes.json").read_text())[0]["box"]
    with (work / backend / "images.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if (r["image"], r["method"]) == ("00_zero.png", "grad-cam"))
    energy = heat[top:bottom, left:right].sum() / heat.sum()
    assert float(row["energy-pointing"]) == pytest.approx(energy, abs=1e-6)
    assert "<svg" in (work / backend / "report.html").read_text()


def test_two_runtimes_agree(work: Path, root: Path) -> None:
    images = root / "models" / "clutter_digits" / "samples"
    asked = [images, "--method", "grad-cam,relevance-cam", "--metrics", "complexity"]
    command("xai-evaluate", "digits.xai", *asked, "--backend", "onnxruntime,openvino", "-o", "both", cwd=work)
    report = json.loads((work / "both" / "results.json").read_text())
    compared = [entry["figures"] for entry in report["results"] if "openvino" in entry["network"]]
    assert len(compared) == 2
    for figures in compared:
        assert figures["same-prediction"]["mean"] == 100
        assert figures["rank-correlation"]["mean"] > 0.999
        assert figures["top10-overlap"]["mean"] > 0.98
