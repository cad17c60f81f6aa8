"""Graphs in parts: put together byte for byte, and every list, file and size of a stranger that is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import IntegrityError, ManifestError, UnsafePathError

from .. import tiny
from ..conftest import Bundles
from .test_bundle import rewrite

LIST = b"100 tail.onnx 5 60\n0 head.onnx 0 8\n7 head.onnx 8 2\n\n"


@pytest.fixture(scope="module")
def whole(bundles: Bundles) -> tiny.Tiny:
    """The residual network with its gradient, as ONNX files."""
    return bundles("residual", gradients=True)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(folder: Path, role: str, data: bytes, graph: bytes) -> None:
    """Let the file of a role be `data`, which should make up `graph`, and have all hashes fit, as an attacker would."""
    name = f"{role}.parts"
    (folder / name).write_bytes(data)

    def change(document: dict[str, Any]) -> None:
        document["files"].pop(document["graphs"][role]["file"], None)
        document["files"][name] = {"sha256": digest(data), "size": len(data)}
        document["graphs"][role] |= {"file": name, "whole": {"sha256": digest(graph), "size": len(graph)}}
        document["requires"] = ["parts"]

    rewrite(folder, change)


def cut(folder: Path, role: str, source: str) -> bytes:
    """A graph in parts: what its weights have in common with those of `source`, found byte by byte. Returns the ONNX file."""
    graph, other = (folder / f"{role}.onnx").read_bytes(), (folder / source).read_bytes()
    weight = tiny.weights()["flat"].tobytes()
    here, there = graph.index(weight), other.index(weight)
    head = f"{here} {source} {there} {len(weight)}\n\n".encode()
    (folder / f"{role}.onnx").unlink()
    put(folder, role, head + graph[:here] + graph[here + len(weight) :], graph)
    return graph


@pytest.fixture
def folder(whole: tiny.Tiny, tmp_path: Path) -> Path:
    """A copy of the bundle whose gradient is in parts, to be spoilt."""
    copy = tmp_path / "spoilt.xai"
    shutil.copytree(whole.path, copy)
    cut(copy, "gradient", "tail.onnx")
    return copy


def test_same_file_and_maps(whole: tiny.Tiny, folder: Path, backend: str) -> None:
    plain, parts = Bundle.open(whole.path), Bundle.open(folder)
    assert (folder / "gradient.parts").stat().st_size < (whole.path / "gradient.onnx").stat().st_size - 2000
    assert not (folder / "gradient.onnx").exists()
    assert parts.graph("gradient") == (whole.path / "gradient.onnx").read_bytes()
    assert parts.manifest.network == plain.manifest.network
    for count in (1, 3):
        x = tiny.inputs("residual", count)
        got, want = (Explainer(path, backend).explain(x, "grad-cam").raw for path in (folder, whole.path))
        assert np.array_equal(got, want)
        assert want.any()


def test_the_network_itself_in_parts(whole: tiny.Tiny, folder: Path) -> None:
    """Not what we write, but allowed; its digest is that of the weights, in whatever form they lie."""
    cut(folder, "tail", "input-gradient.onnx")
    graph = (whole.path / "gradient.onnx").read_bytes()
    put(folder, "gradient", b"\n" + graph, graph)  # it named tail.onnx, which is no file any more
    opened = Bundle.open(folder)
    assert opened.graph("tail") == (whole.path / "tail.onnx").read_bytes()
    assert opened.manifest.network == Bundle.open(whole.path).manifest.network


def test_list_as_documented(folder: Path) -> None:
    """The order of own and others' bytes, and a part without own bytes before it."""
    tail, head = (folder / "tail.onnx").read_bytes(), (folder / "head.onnx").read_bytes()
    own = bytes(range(120))
    graph = own[:100] + tail[5:65] + head[:8] + own[100:107] + head[8:10] + own[107:]
    put(folder, "gradient", LIST + own, graph)
    opened = Bundle.open(folder)
    message = r"gradient\.parts: is not an ONNX graph"
    with pytest.raises(IntegrityError, match=message):  # which it is not; but it was put together as the sha256 says
        opened.graph("gradient")


def line(text: str) -> bytes:
    return text.encode() + b"\n\n"


NO_LIST = r"gradient\.parts: is not the list of a graph's parts; export the network again"
NOT_UP = r"gradient\.parts: its parts do not make up the graph's 1000 bytes; export the network again"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", NOT_UP),
        (b"\n", NOT_UP),
        (b"\n" + bytes(999), NOT_UP),
        (b"\n" + bytes(1001), NOT_UP),
        (b"no list", NOT_UP),  # without an empty line there is no list, and no bytes
        (line("0 tail.onnx 0 999"), NOT_UP),
        (line("1 tail.onnx 0 1000"), NOT_UP),
        (line("1 tail.onnx 0 500") + bytes(499), NOT_UP),
        (line("600 tail.onnx 0 500") + bytes(500), NOT_UP),
        (line("0 tail.onnx 0 500\n0 tail.onnx 0 501"), NOT_UP),
        (line("0 tail.onnx 0"), NO_LIST),
        (line("0 tail.onnx 0 0") + bytes(1000), NO_LIST),
        (line("-1 tail.onnx 0 1001"), NO_LIST),
        (line("0 tail.onnx -1 1000"), NO_LIST),
        (line("0 tail.onnx 00 1000"), NO_LIST),
        (line("0 tail.onnx +0 1000"), NO_LIST),
        (line("0 tail.onnx 0 1e3"), NO_LIST),
        (line("0 tail.onnx 0 1000 "), NO_LIST),
        (line("0  tail.onnx 0 1000"), NO_LIST),
        (line("0 tail.onnx 0 1000\r"), NO_LIST),
        (line("\u0660 tail.onnx 0 1000"), NO_LIST),
        (line("0 ../tail.onnx 0 1000"), NO_LIST),
        (line("0 /etc/passwd 0 1000"), NO_LIST),
        (line("0 a\\b 0 1000"), NO_LIST),
        (line("0 . 0 1000"), NO_LIST),
        (line("0 tail.onnx 0 " + "9" * 16), NO_LIST),
        (b"0 tail.onnx 0 1\n" * 200_001 + b"\n", r"gradient\.parts: lists 200001 parts; 200000 are allowed"),
        (line("9" * 30 + " tail.onnx 0 1000"), NO_LIST),
    ],
)
def test_lists(folder: Path, data: bytes, message: str) -> None:
    put(folder, "gradient", data, bytes(1000))
    opened = Bundle.open(folder)
    with pytest.raises(IntegrityError, match=message):
        opened.graph("gradient")


@pytest.mark.parametrize("name", ["manifest.json", "none.onnx", "gradient.onnx"])
def test_no_file_of_the_bundle(folder: Path, name: str) -> None:
    put(folder, "gradient", line(f"0 {name} 0 1000"), bytes(1000))
    message = rf"gradient\.parts: takes weights from '{re.escape(name)}', which is no file of the bundle"
    with pytest.raises(UnsafePathError, match=message):
        Bundle.open(folder).graph("gradient")


@pytest.mark.parametrize(("start", "length"), [(0, 1), (1, 0), (10**14, 0)])
def test_beyond_the_end(folder: Path, start: int, length: int) -> None:
    size = (folder / "tail.onnx").stat().st_size
    put(folder, "gradient", line(f"0 tail.onnx {start} {size + length}"), bytes(size + length))
    message = r"gradient\.parts: takes weights from beyond the end of tail\.onnx; export the network again"
    with pytest.raises(IntegrityError, match=message):
        Bundle.open(folder).graph("gradient")


def test_other_bytes_than_recorded(folder: Path) -> None:
    put(folder, "gradient", line("0 tail.onnx 0 1000"), bytes(1000))
    message = r"gradient\.parts: its parts are not the graph that the manifest records; export it again"
    with pytest.raises(IntegrityError, match=message):
        Bundle.open(folder).graph("gradient")


@pytest.mark.parametrize("size", [0, -1, 10**15, "stored"])
def test_more_bytes_than_all_files(folder: Path, size: int | str) -> None:
    """A short list that takes the same weights again and again can't fill the memory."""
    stored = sum(file.stat().st_size for file in folder.iterdir() if file.name != "manifest.json")
    asked = stored + 1 if isinstance(size, str) else size
    rewrite(folder, lambda d: d["graphs"]["gradient"]["whole"].update(size=asked))
    message = f"the graph 'gradient' has {asked} bytes, which are not in the {stored} bytes of all files"
    with pytest.raises(ManifestError, match=message):
        Bundle.open(folder)


def test_not_required(folder: Path) -> None:
    """A reader of an earlier version would not know the key `whole`; the list of features tells it so in words."""
    rewrite(folder, lambda d: d.update(requires=[]))
    with pytest.raises(
        ManifestError, match="the graph 'gradient' is in parts, but the bundle does not require 'parts'"
    ):
        Bundle.open(folder)


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("file", ["gradient.parts", "tail.onnx"])
@pytest.mark.parametrize("opened_before", [True, False])
@pytest.mark.parametrize(
    ("spoil", "message", "kind"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "changed since the bundle was written", IntegrityError),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "changed since", IntegrityError),
        (lambda path: path.unlink(), "the manifest lists it, but it is missing; copy", IntegrityError),
        (lambda path: (path.rename(path.with_suffix(".x")), path.symlink_to(path.with_suffix(".x"))), "is a link", UnsafePathError),
        (to_pipe, "is not a plain file", UnsafePathError),
    ],
)  # fmt: skip
def test_changed_files(
    folder: Path, file: str, opened_before: bool, spoil: Callable[[Path], object], message: str, kind: type[Exception]
) -> None:
    """Also those that are changed after the bundle was opened: what runs has the sha256 that the manifest records."""
    opened = Bundle.open(folder) if opened_before else None
    spoil(folder / file)
    with pytest.raises(kind, match=rf"{re.escape(file)}: .*{message}"):
        (opened or Bundle.open(folder)).graph("gradient")


def test_format_1_has_no_parts(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.xai"
    shutil.copytree(Path(__file__).parent / "format1" / "every", old)
    rewrite(old, lambda d: d["graphs"]["gradient"].update(whole={"sha256": "", "size": 1}))
    with pytest.raises(ManifestError, match=r"graphs\['gradient'\]: unknown key 'whole'"):
        Bundle.open(old)


def test_manifest_of_parts_in_json(folder: Path) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    assert document["graphs"]["gradient"]["whole"].keys() == {"sha256", "size"}
    assert all("whole" not in graph for role, graph in document["graphs"].items() if role != "gradient")


def test_replaced_by_another_bundle(folder: Path, whole: tiny.Tiny) -> None:
    """As after a hot swap: a graph that was not opened before is refused as such, not as damaged."""
    opened = Bundle.open(folder)
    shutil.rmtree(folder)
    shutil.copytree(whole.path, folder)
    rewrite(folder, lambda d: d.update(name="another"))
    with pytest.raises(IntegrityError, match="another bundle was put in its place since it was opened; open it again"):
        opened.graph("gradient")
    assert Bundle.open(folder).graph("gradient") == (whole.path / "gradient.onnx").read_bytes()
