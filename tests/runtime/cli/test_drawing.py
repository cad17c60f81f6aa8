"""The options of the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.cli import explain
from xai_deploy.cli.contact_sheet import TILE

from .test_cli import report
from .test_cli_refusals import bad


@pytest.mark.parametrize(("suffix", "off"), [("png", 0), ("jpg", 4), ("webp", 4)])
def test_format_and_size(work: Path, suffix: str, off: int) -> None:
    smooth = np.add.outer(np.arange(300), np.arange(400))[..., None] * [0.3, 0.2, 0.1]  # noise does not survive JPEG
    write_image("photos/dog.png", smooth.astype(np.uint8))
    arguments = ["net.xai", "photos/dog.png", "-m", "cam", "-t", "0", "--format", suffix, "-o", "out", "-q"]
    assert explain.main(arguments) == 0
    found = report(Path("out"))
    [entry] = found["images"][0]["explanations"]
    assert found["contact_sheets"] == [f"contact-sheet.{suffix}"]
    assert entry["overlay"] == f"dog--cam--0.{suffix}"
    wanted = Explainer("net.xai").explain(photo := read_image("photos/dog.png"), "cam", 0).overlay(photo)[0]
    got = read_image(f"out/{entry['overlay']}")
    assert np.abs(got.astype(int) - wanted).mean() <= off
    assert explain.main([*arguments, "--size", "100", "--overwrite"]) == 0
    assert read_image(f"out/dog--cam--0.{suffix}").shape == (75, 100, 3)
    sheet = read_image(f"out/contact-sheet.{suffix}")
    assert sheet.shape[1] == 2 * (TILE + 24)  # the least width of a page: its head needs room
    assert explain.main([*arguments, "--size", "500", "--overwrite"]) == 0
    assert read_image(f"out/dog--cam--0.{suffix}").shape == (300, 400, 3), "a photo is never enlarged"
    assert read_image(f"out/contact-sheet.{suffix}").shape[1] == 2 * 500 + 16 + 2 * 24
    assert explain.main(["net.xai", "photos/cat.png", "-o", "out", "--overwrite", "-q"]) == 0
    assert not list(Path("out").glob("*dog*"))
    assert not list(Path("out").glob(f"*.{suffix}")) or suffix == "png"


def test_style(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["net.xai", "photos/dog.png", "-m", "cam:relu=false,reciprocam", "-t", "0", "-b", "onnxruntime"]
    style = ["--opacity", "1", "--grey", "--contours", "--colormap", "turbo", "--colormap", "RdBu_r"]
    assert explain.main([*arguments, *style, "-o", "out"]) == 0
    assert capsys.readouterr().err == ""
    explainer, photo = Explainer("net.xai", "onnxruntime"), read_image("photos/dog.png")
    cases: tuple[tuple[str, tuple[str, dict[str, Any]], str], ...] = (
        ("cam+relu=false", ("cam", {"relu": False}), "RdBu_r"),
        ("reciprocam", ("reciprocam", {}), "turbo"),
    )
    for name, (method, options), colormap in cases:
        e = explainer.explain(photo, method, 0, **options)
        wanted = e.overlay(photo, 1, colormap=colormap, grey=True, contours=True)[0].astype(int)
        assert np.abs(read_image(f"out/dog--{name}--0.png") - wanted).max() <= 8
        assert (e.overlay(photo)[0] != wanted).mean() > 0.5
    entries = report(Path("out"))["images"][0]["explanations"]
    assert [entry["signed"] for entry in entries] == [True, False]


def test_a_colormap_that_no_map_takes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["net.xai", "photos/dog.png", "--colormap", "coolwarm"]) == 0
    line = "xai-explain: warning: --colormap coolwarm: not used, since no map here is signed\n"
    assert capsys.readouterr().err == line


def test_a_colormap_that_does_not_exist(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no colour map 'jet'" in bad(["net.xai", "photos/dog.png", "--colormap", "jet"], capsys)
    assert not Path("xai-output").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "31"], "between 32 and 2048 pixels, not 31"),
        (["--size", "2049"], "between 32 and 2048 pixels, not 2049"),
        (["--format", "gif"], "invalid choice: 'gif'"),
    ],
)
def test_refusals(work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        explain.main(["net.xai", "photos/dog.png", *arguments])
    assert message in capsys.readouterr().err
    assert not Path("xai-output").exists()


def test_the_layer_chosen_by_the_exporter_has_its_name(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from xai_deploy.format.bundle import TargetLayer

    layer = TargetLayer("auto", "/features/relu", (6, 4, 5), "float32")
    assert (layer.name, layer.title) == ("/features/relu", "/features/relu, 4 x 5")
    assert replace(layer, asked="layer4").title == "layer4, 4 x 5"
    assert explain.main(["net.xai", "photos/dog.png", "-q"]) == 0
    assert report()["bundle"]["layer"] == "layer, 4 x 5"
