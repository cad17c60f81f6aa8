"""Links, pipes and sparse files in the place of weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzing.formats import Net, paddle
from xai_exporters.errors import SourceError
from xai_exporters.request import Request
from xai_exporters.sources import load_source, parts

NET = Net.drawn()


def linked(weights: Path) -> None:
    """To a file elsewhere."""
    elsewhere = weights.parent / "elsewhere"
    elsewhere.mkdir()
    weights.rename(elsewhere / weights.name)
    weights.symlink_to(elsewhere / weights.name)


def piped(weights: Path) -> None:
    weights.unlink()
    os.mkfifo(weights)


REPLACED: dict[str, tuple[Callable[[Path], None], str]] = {
    "link": (linked, r"net\.pdiparams is a link out of the folder; refused, put the file itself there"),
    "pipe": (piped, r"its weights, net\.pdiparams, are missing; put the file beside it"),
    "sparse": (
        lambda weights: os.truncate(weights, 1 << 30),
        r"net\.pdiparams has 1073741824 bytes, of which the disk holds \d+ \(a sparse file\); refused, copy it again",
    ),
}


@pytest.mark.parametrize("kind", REPLACED)
def test_weights_that_are_no_plain_file(kind: str, tmp_path: Path) -> None:
    replace, message = REPLACED[kind]
    path = paddle.save(NET, tmp_path / "net")
    replace(path.with_suffix(".pdiparams"))
    with pytest.raises(SourceError, match=rf"net\.pdmodel: {message}$"):
        load_source(Request(path))


def test_links_to_one_folder(tmp_path: Path) -> None:
    """As the cache of Hugging Face's hub keeps its files: graph and weights are links to the same folder."""
    (tmp_path / "blobs").mkdir()
    path = paddle.save(NET, tmp_path / "blobs" / "net")
    for file in (path, path.with_suffix(".pdiparams")):
        (tmp_path / file.name).symlink_to(file)
    graph = tmp_path / path.name
    assert parts.require_beside(graph, graph, graph.with_suffix(".pdiparams")) == graph.with_suffix(".pdiparams")


@pytest.mark.parametrize("name", ["net.onnx", "net.tflite", "net.xml"])
def test_a_source_that_is_no_plain_file(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match=rf"{name}: is no plain file; name the network's file"):
        load_source(Request(tmp_path / name))


def test_a_sparse_source(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    os.truncate(tmp_path / "net.tflite", 1 << 30)
    with pytest.raises(SourceError, match=r"net\.tflite has 1073741824 bytes, of which the disk holds"):
        load_source(Request(tmp_path / "net.tflite"))
