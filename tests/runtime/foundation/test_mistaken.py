"""A path given in place of another: URLs, empty files, and arguments in the wrong order, in every command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xai_exporters.cli import main as xai_export

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.cli import bench, check, explain
from xai_deploy.errors import ImageFileError, ModelFileError, NotABundleError, TruthError
from xai_deploy.evaluation.truth.annotations import read_boxes
from xai_deploy.foundation.mistaken import is_url

from .. import tiny

ORDER = "a bundle or a model file comes first, then the images"
DOWNLOAD = (
    "https://example.org/a/b.png: is a URL, and only files are read; "
    "download it first (curl -LO https://example.org/a/b.png), "
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path / "net.xai")
    write_image("cat.png", np.zeros((9, 9, 3), np.uint8))
    Path("photos").mkdir()
    write_image("photos/dog.png", np.zeros((9, 9, 3), np.uint8))
    Path("empty.png").touch()
    Path("empty.onnx").touch()
    Path("net.onnx").write_bytes(b"\x08\x0a\x12\x04test")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("https://example.org/a/b.png", DOWNLOAD + "and name the file"),
        (
            "s3://bucket/b.png",
            "s3://bucket/b.png: is a URL, and only files are read; download it first, and name the file",
        ),
        ("file:///tmp/b.png", "file:///tmp/b.png: is a URL; give the path alone, /tmp/b.png"),
        ("C:/photos/b.png", None),
        ("photos/https.png", None),
    ],
)
def test_urls(path: str, says: str | None) -> None:
    assert is_url(path) == says


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("https://example.org/a/b.png", DOWNLOAD),
        ("net.xai", f"net.xai: is a bundle, not an image; {ORDER}"),
        ("net.onnx", f"net.onnx: is a network, not an image; {ORDER}"),
        ("empty.png", "empty.png: is empty; copy or download it again"),
    ],
)
def test_in_place_of_an_image(here: Path, path: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageFileError) as error:
        read_image(path)
    assert str(error.value).startswith(says)
    assert explain.main(["net.xai", path]) == 2
    assert capsys.readouterr().err.startswith(("xai-explain: error: " + says, "xai-explain: error: net.xai: "))
    assert not Path("xai-output").exists()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("https://example.org/net.xai", "https://example.org/net.xai: is a URL, and only files are read"),
        ("photos", f"photos: is a folder of images; {ORDER}"),
        ("cat.png", "cat.png: is an image; "),
        ("none.onnx", "none.onnx: no such file"),
        ("net.xai/head.onnx", "net.xai/head.onnx: is a part of a bundle; give its folder, net.xai"),
    ],
)
def test_in_place_of_a_bundle(here: Path, path: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotABundleError) as error:
        Explainer(path)
    assert str(error.value).startswith(says)
    for command, arguments in ((explain, [path, "net.xai"]), (bench, [path]), (check, ["net.xai", path, "cat.png"])):
        assert command.main(arguments) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("https://example.org/a/b.png", DOWNLOAD),
        ("net.xai", "net.xai: a bundle, which is exported already; give it to xai-explain"),
        ("cat.png", "cat.png: an image; name the network; images are for xai-explain"),
        ("empty.onnx", "empty.onnx: the file is empty"),
    ],
)
def test_in_place_of_a_network(here: Path, path: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert xai_export([path, "-o", "out.xai"]) == 2
    assert capsys.readouterr().err.startswith(f"xai-export: error: {says}")


def test_a_bundle_in_place_of_a_network_without_a_destination(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its default destination is the bundle itself, which must not be offered for replacement."""
    assert xai_export(["net.xai", "--overwrite"]) == 2
    assert capsys.readouterr().err.startswith("xai-export: error: net.xai: a bundle, which is exported already")
    Explainer("net.xai")


def test_another_programs_manifest(here: Path) -> None:
    """A network beside a web page's manifest.json is not taken for a bundle's part."""
    for text in ("{}", "[", '{"name": "a page"}'):
        Path("manifest.json").write_text(text)
        with pytest.raises(ModelFileError):
            Explainer("net.onnx")


def test_empty_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("empty.npz", "empty.json", "empty.csv"):
        Path(name).touch()
    assert check.main(["empty.npz", "net.xai", "cat.png"]) == 2
    assert capsys.readouterr().err == "xai-check: error: empty.npz: is empty; record again\n"
    for name in ("empty.json", "empty.csv"):
        with pytest.raises(TruthError, match=rf"^{name}: is empty; copy or export it again$"):
            read_boxes(name, here)
