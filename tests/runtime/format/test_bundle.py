"""Opening bundles: what is refused, by which error, with which words. Attacks first of all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import (
    FormatVersionError,
    IntegrityError,
    ManifestError,
    NotABundleError,
    UnsafePathError,
    XaiError,
)
from xai_deploy.format import bundle

from .. import tiny
from ..conftest import Bundles

FILES = ("manifest.json", "head.onnx", "tail.onnx", "pixelwise-tail.onnx", "labels.txt")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON and give it the digest that fits, as an attacker would."""
    document = json.loads((folder / "manifest.json").read_bytes())
    change(document)
    document["digest"] = ""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json").write_text(text.replace('"digest": ""', f'"digest": "{digest}"', 1), encoding="utf-8")


def test_opens(bundles: Bundles) -> None:
    opened = Bundle.open(bundles("pooled").path)
    assert opened.labels == tiny.LABELS
    assert opened.has("pixelwise-tail")
    assert not opened.has("gradient")
    assert sorted(path.name for path in opened.path.iterdir()) == sorted(FILES)


def test_rewritten_bundle_opens(folder: Path) -> None:
    """The tool of the attacks below works: refused is what they change, not that they change."""
    rewrite(folder, lambda d: d.update(name="another"))
    assert Bundle.open(folder).manifest.name == "another"


def test_manifest_round_trip(bundles: Bundles) -> None:
    manifest = Bundle.open(bundles("residual").path).manifest
    assert bundle.parse_manifest(manifest.to_bytes()) == manifest
    assert manifest.to_bytes() == (bundles("residual").path / "manifest.json").read_bytes()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 1.0])
def test_flipped_byte(folder: Path, file: str, where: float) -> None:
    data = bytearray((folder / file).read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises((IntegrityError, ManifestError), match=re.escape(file)):
        Bundle.open(folder)


def test_every_byte_of_the_manifest_counts(folder: Path) -> None:
    """No byte of the manifest can change without an error of ours, whatever it makes of the JSON."""
    good = (folder / "manifest.json").read_bytes()
    for position in range(0, len(good), 7):
        data = bytearray(good)
        data[position] ^= 1
        with pytest.raises(XaiError):
            bundle.parse_manifest(bytes(data))


@pytest.mark.parametrize("file", FILES)
def test_appended_byte(folder: Path, file: str) -> None:
    with (folder / file).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(IntegrityError, match=re.escape(file)):
        Bundle.open(folder)


@pytest.mark.parametrize("file", FILES[1:])
def test_missing_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(IntegrityError, match=f"{re.escape(file)}: the manifest lists it, but it is missing"):
        Bundle.open(folder)


def test_file_changed_after_opening(folder: Path) -> None:
    explainer = Explainer(folder, "onnxruntime")
    data = bytearray((folder / "head.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "head.onnx").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"head\.onnx: changed since"):
        explainer.predict(tiny.inputs("pooled", 1))


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(NotABundleError, match="no such folder; a bundle is a folder"):
        Bundle.open(tmp_path / "none.xai")
    with pytest.raises(NotABundleError, match=r"no manifest\.json in it"):
        Bundle.open(tmp_path)
    (tmp_path / "notes").touch()
    with pytest.raises(NotABundleError, match="is a file; a bundle is a folder"):
        Bundle.open(tmp_path / "notes")
    (tmp_path / "net.onnx").touch()
    with pytest.raises(
        NotABundleError, match=r"net\.onnx: is a network; make a bundle of it first: xai-export .*net\.onnx"
    ):
        Bundle.open(tmp_path / "net.onnx")


EVIL_NAMES = ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "C:x", ".hidden", "x\n", "x\0y", "head.onnx/", "-rf"]


@pytest.mark.parametrize("name", EVIL_NAMES)
@pytest.mark.parametrize("recorded", [True, False])
def test_path_traversal(folder: Path, name: str, recorded: bool) -> None:
    def change(document: dict[str, Any]) -> None:
        document["graphs"]["head"]["file"] = name
        if recorded:
            document["files"][name] = document["files"]["head.onnx"]

    rewrite(folder, change)
    with pytest.raises(UnsafePathError, match="is not a plain file name inside the bundle"):
        Bundle.open(folder)


def test_labels_path_traversal(folder: Path) -> None:
    rewrite(folder, lambda d: d.update(labels="../labels.txt"))
    with pytest.raises(UnsafePathError, match=r"'\.\./labels\.txt' is not a plain file name"):
        Bundle.open(folder)


@pytest.mark.parametrize("file", ["manifest.json", "head.onnx", "labels.txt"])
def test_link_instead_of_file(folder: Path, tmp_path: Path, file: str) -> None:
    shutil.move(folder / file, tmp_path / "elsewhere")
    (folder / file).symlink_to(tmp_path / "elsewhere")  # the very same bytes
    with pytest.raises(UnsafePathError, match=f"{re.escape(file)}: is a link"):
        Bundle.open(folder)


@pytest.mark.parametrize("file", ["manifest.json", "head.onnx"])
@pytest.mark.timeout(20)
def test_pipe_instead_of_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    with pytest.raises(UnsafePathError, match=f"{re.escape(file)}: is not a plain file"):
        Bundle.open(folder)


@pytest.mark.parametrize("file", ["manifest.json", "head.onnx"])
def test_folder_instead_of_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (folder / file).mkdir()
    with pytest.raises(UnsafePathError, match=f"{re.escape(file)}: is not a plain file"):
        Bundle.open(folder)


@pytest.mark.parametrize(("version", "advice"), [(3, "update xai-deploy"), (0, "export the network again")])
def test_other_format(folder: Path, version: int, advice: str) -> None:
    rewrite(folder, lambda d: d.update(format=version))
    with pytest.raises(FormatVersionError, match=f"bundle format {version}, .* reads formats 1 to 2; {advice}"):
        Bundle.open(folder)


def test_newer_format_is_told_before_its_unknown_keys(folder: Path) -> None:
    rewrite(folder, lambda d: d.update(format=3, novelty=1))
    with pytest.raises(FormatVersionError):
        Bundle.open(folder)


def test_huge_manifest(folder: Path) -> None:
    with (folder / "manifest.json").open("r+b") as stream:
        stream.truncate(bundle.MANIFEST_LIMIT + 1)  # a hole, no disk
    with pytest.raises(IntegrityError, match=r"manifest\.json: larger than"):
        Bundle.open(folder)


def test_huge_file_is_not_read(folder: Path) -> None:
    with (folder / "tail.onnx").open("r+b") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(IntegrityError, match=r"tail\.onnx: larger than"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"format": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
        b"\xff\xfe\x00",
        b'{"format": 1' + b"1" * 10_000 + b"}",
    ],
)
def test_bad_json(folder: Path, text: bytes) -> None:
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(ManifestError, match="not valid JSON"):
        Bundle.open(folder)


@pytest.mark.parametrize("key", ["head.onnx", "tail", "name"])
def test_a_name_that_stands_twice(folder: Path, key: str) -> None:
    """A file, a role, a field: readers that take the first of two would read another bundle."""
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    assert text.count(f'"{key}": ') >= 1
    text = text.replace(f'"{key}": ', f'"{key}": 0, "{key}": ', 1)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError, match=rf"not valid JSON \('{key}' stands twice in one object\)"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["HEAD.onnx", "MANIFEST.JSON"])
def test_names_that_differ_in_case_alone(folder: Path, name: str) -> None:
    def change(document: dict[str, Any]) -> None:
        document["files"][name] = document["files"]["head.onnx"]

    (folder / name).write_bytes((folder / "head.onnx").read_bytes())
    rewrite(folder, change)
    with pytest.raises(UnsafePathError, match=rf"'{name}' differ in case alone; some systems take them for one file"):
        Bundle.open(folder)


@pytest.mark.parametrize("text", [b"{}", b"[]", b"1", b"null", b'{"format": "1"}', b'{"format": true}'])
def test_json_of_something_else(folder: Path, text: bytes) -> None:
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(ManifestError, match="no format version; is this an xai-deploy bundle"):
        Bundle.open(folder)


@pytest.mark.parametrize("digest", ["", "0" * 64, "zz"])
def test_wrong_digest(folder: Path, digest: str) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(re.sub(r'"digest": "\w+"', f'"digest": "{digest}"', text))
    with pytest.raises(IntegrityError, match="its digest does not fit"):
        Bundle.open(folder)


@pytest.mark.parametrize("hash_", ["0" * 64, "", "../x"])
def test_wrong_hash(folder: Path, hash_: str) -> None:
    rewrite(folder, lambda d: d["files"]["tail.onnx"].update(sha256=hash_))
    with pytest.raises(IntegrityError, match=r"tail\.onnx: changed since the bundle was written"):
        Bundle.open(folder)


@pytest.mark.parametrize("size", [0, -1, -2, 1])
def test_wrong_size(folder: Path, size: int) -> None:
    rewrite(folder, lambda d: d["files"]["tail.onnx"].update(size=size))
    with pytest.raises(IntegrityError, match=r"tail\.onnx: larger than the"):
        Bundle.open(folder)


def test_larger_size_than_the_file(folder: Path) -> None:
    rewrite(folder, lambda d: d["files"]["tail.onnx"].update(size=1 << 60))
    with pytest.raises(IntegrityError, match=r"tail\.onnx: changed since"):
        Bundle.open(folder)


def test_labels_must_be_as_many_as_classes(tmp_path: Path) -> None:
    net = tiny.write(tmp_path / "few.xai", labels=("cat", "dog"))
    with pytest.raises(ManifestError, match="2 labels for 5 classes"):
        Explainer(net.path, "onnxruntime")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_labels_split_at_line_ends_alone(tmp_path: Path, ending: str) -> None:
    labels = ("a\u2028b", "c\x0bd", "é", "", "日本")
    net = tiny.write(tmp_path / "odd.xai", labels=labels)
    data = ending.join(labels).encode() + ending.encode()
    (net.path / "labels.txt").write_bytes(data)
    parsed = bundle.parse_manifest((net.path / "manifest.json").read_bytes())
    parsed = replace(parsed, files=parsed.files | bundle.file_records({"labels.txt": data}))
    (net.path / "manifest.json").write_bytes(parsed.to_bytes())
    assert Bundle.open(net.path).labels == labels


def test_no_labels(tmp_path: Path) -> None:
    assert Bundle.open(tiny.write(tmp_path / "bare.xai", labels=()).path).labels == ()
