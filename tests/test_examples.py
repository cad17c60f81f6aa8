"""The scripts and notebooks in examples/ run as they stand."""

from __future__ import annotations

import asyncio
import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import httpx
import nbclient
import nbformat
import numpy as np
import onnxruntime
import pytest

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.methods import methods

from .evaluation import nets

LABELS = ("cat", "dog", "owl", "elk", "emu")
NOTEBOOKS = ("check_int8", "first_maps")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: `net.xai` and `photos` of three images."""
    monkeypatch.chdir(tmp_path)
    nets.write(tmp_path / "net.xai", labels=LABELS)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (nets.HEIGHT, nets.WIDTH, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{number}.png", pixels)
    return tmp_path


def run(script: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *arguments])
        runpy.run_path(str(script), run_name="__main__")


def test_each_example_has_a_test(root: Path) -> None:
    scripts = {"custom_method", "evaluate", "explain", "folder_to_csv", "int8_against_float32", "serve"}
    assert {path.stem for path in (root / "examples").glob("*.py")} == scripts
    assert {path.stem for path in (root / "examples").glob("*.ipynb")} == set(NOTEBOOKS)


def test_evaluate(root: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root / "examples" / "evaluate.py", "net.xai", "photos", "scores")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    results = json.loads(Path("scores/results.json").read_bytes())["results"]
    printed = {(method, name): float(mean) for method, name, mean, _, _ in lines}
    assert printed == {(r["method"], name): f["mean"] for r in results for name, f in r["figures"].items()}
    assert {method for method, _ in printed} == {"reciprocam", "reciprocam+score=softmax"}
    assert Path("scores/report.html").is_file()


def test_explain(root: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root / "examples" / "explain.py", "net.xai", "photos/1.png", "overlay.png")
    found = json.loads(capsys.readouterr().out)
    best = int(Explainer("net.xai").predict(read_image("photos/1.png")).argmax())
    assert found["explanation"]["target"] == found["prediction"][0]["class"] == best
    assert found["explanation"]["label"] == LABELS[best]
    assert found["explanation"]["overlay"] == "overlay.png"
    assert read_image("overlay.png").shape == (nets.HEIGHT, nets.WIDTH, 3)


def test_folder_to_csv(root: Path, desk: Path) -> None:
    run(root / "examples" / "folder_to_csv.py", "net.xai", "photos", "maps.csv")
    header, *rows = csv.reader(Path("maps.csv").read_text(encoding="utf-8").splitlines())
    assert [row[0] for row in rows] == ["0.png", "1.png", "2.png"]
    explained = Explainer("net.xai").explain([read_image(f"photos/{number}.png") for number in range(3)], "reciprocam")
    h, w = explained.raw.shape[1:]
    assert header[4:] == [f"row {y} column {x}" for y in range(h) for x in range(w)]
    maps = np.array([[float(value) for value in row[4:]] for row in rows]).reshape(3, h, w)
    np.testing.assert_allclose(maps, explained.raw, rtol=1e-5, atol=1e-6)
    assert [int(row[1]) for row in rows] == explained.target.tolist()


def test_int8_against_float32(root: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same network agrees; one of other weights does not."""
    nets.write(desk / "other.xai", seed=1, labels=LABELS)
    for other, status, first in (("net.xai", 0, "1.000"), ("other.xai", 1, None)):
        with pytest.raises(SystemExit) as ended:
            run(root / "examples" / "int8_against_float32.py", "net.xai", other, "photos")
        assert ended.value.code == status
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4 + 3
        assert all(line.endswith(("ok", "FAILED")) for line in lines[:4])
        worst = [float(line.split()[-1]) for line in lines[4:]]
        assert worst == sorted(worst)
        assert first is None or lines[0].split()[2] == first


def test_custom_method(root: Path, desk: Path) -> None:
    """Against the formula, channel by channel."""
    explainer, image = Explainer("net.xai"), read_image("photos/0.png")
    try:
        run(root / "examples" / "custom_method.py", "net.xai", "photos/0.png", "fem.png")
        raw = explainer.explain(image, "fem", k="1.5").raw[0]
    finally:
        del methods._items["fem"]  # it is of this test alone
    assert read_image("fem.png").shape == (nets.HEIGHT, nets.WIDTH, 3)
    head = onnxruntime.InferenceSession("net.xai/head.onnx")
    [activation] = head.run(["activation"], {"image": explainer.prepare(image).x})
    wanted = sum(np.mean(channel > channel.mean() + 1.5 * channel.std()) * channel for channel in activation[0])
    np.testing.assert_allclose(raw, wanted, rtol=1e-4, atol=1e-6)


def test_serve(root: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predicts and explains with one run of the head, and says what is wrong with a request."""
    monkeypatch.setenv("BUNDLE", "net.xai")
    server = runpy.run_path(str(root / "examples" / "serve.py"))
    heads: list[int] = []
    opened = server["explainer"]._sessions("head")
    ran = opened.run

    def counted(*arguments: Any) -> Any:
        heads.append(1)
        return ran(*arguments)

    monkeypatch.setattr(opened, "run", counted)

    async def ask(*requests: tuple[bytes, dict[str, str]]) -> list[httpx.Response]:
        transport = httpx.ASGITransport(server["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return [await client.post("/explain", content=body, params=params) for body, params in requests]

    photo = Path("photos/1.png").read_bytes()
    predicted, cat, unknown, broken = asyncio.run(
        ask((photo, {}), (photo, {"target": "cat"}), (photo, {"target": "cow"}), (photo[:99], {}))
    )
    assert len(heads) == 2
    expected = Explainer("net.xai").explain(read_image("photos/1.png"), "reciprocam")
    answer = predicted.json()
    assert answer["target"] == answer["prediction"][0]["class"] == int(expected.target[0])
    np.testing.assert_allclose(answer["map"], expected.raw[0], rtol=1e-5, atol=1e-6)
    assert cat.json()["label"] == "cat"
    assert (unknown.status_code, broken.status_code) == (422, 422)
    assert "cow" in unknown.json()["detail"]
    assert "truncated" in broken.json()["detail"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(root: Path, name: str, tmp_path: Path) -> None:
    """Every cell runs, in a kernel of this Python; the committed file holds no outputs."""
    notebook = nbformat.read(  # type: ignore[no-untyped-call]
        root / "examples" / f"{name}.ipynb", 4
    )
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        client = nbclient.NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=300,
            resources={"metadata": {"path": str(root / "examples")}},
        )
        client.execute()
    kinds = [output.output_type for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "error" not in kinds
    shown = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert shown, "no picture was drawn"
