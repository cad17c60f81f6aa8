"""The cache of exported bundles: what it holds, what it refuses, and two processes at once."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from xai_deploy import Explainer
from xai_deploy.errors import CacheError, ModelFileError
from xai_deploy.exported import entry, open_bundle, private_folder
from xai_deploy.exported.private_folder import FOLDER, LIMIT
from xai_deploy.format.bundle import Bundle

from .conftest import StandIn

linux = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of POSIX")


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


def folder_in(cache: Path) -> Path:
    """The folder of the only bundle."""
    (entry,) = entries(cache)
    (folder,) = [path for path in entry.iterdir() if path.name != "lock"]
    assert folder.name.startswith("made-")
    return folder


def release() -> None:
    """Forget that this process uses entries."""
    for file in entry._in_use.values():
        os.close(file)
    entry._in_use.clear()


def test_the_second_time_it_is_there(stand_in: StandIn, model: Path, cache: Path) -> None:
    for _ in range(2):
        bundle = open_bundle(model, {"split": "layer"})
    folder = folder_in(cache)
    assert bundle.path == folder / "net.xai"
    assert stand_in.calls == [[stand_in.calls[0][0], "--json=-", "--steps", "--split=layer", "--", str(model)]]
    assert {path.name for path in folder.iterdir()} == {"used", "record.json", "net.xai"}
    if os.name == "posix":
        assert {path.stat().st_mode & 0o777 for path in (cache, folder.parent, folder, bundle.path)} == {0o700}


def test_a_saved_model(stand_in: StandIn, model: Path, cache: Path) -> None:
    """A SavedModel's folder is a model file; its bundle is made again if its graph changes."""
    folder = model.parent / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"one")
    for content in (b"one", b"two"):
        (folder / "saved_model.pb").write_bytes(content)
        for _ in range(2):
            assert open_bundle(folder, {"split": "layer"}).path.name == "saved.xai"
    assert [call[-1] for call in stand_in.calls] == [str(folder)] * 2
    assert len(entries(cache)) == 2


def test_what_makes_another_bundle(
    stand_in: StandIn, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calls() -> int:
        return len(stand_in.calls)

    open_bundle(model)
    shutil.copy(model, tmp_path / "other.onnx")  # the name counts: it may tell which network it is
    (tmp_path / "deeper").mkdir()
    copied = shutil.copy(model, tmp_path / "deeper")
    open_bundle(tmp_path / "other.onnx")
    assert calls() == 2
    open_bundle(copied)
    assert calls() == 2
    others: list[dict[str, object]] = [{"split": "a"}, {"split": "b"}, {"preprocess": "tf"}, {"methods": ["lrp"]}]
    for number, options in enumerate(others, 3):
        open_bundle(model, options)
        assert calls() == number
    open_bundle(model, {"pixel_relevance": True})  # what lrp asks for
    open_bundle(model, {"split": None, "trust_code": False})
    assert calls() == 6
    model.write_bytes(b"other weights")
    open_bundle(model)
    assert calls() == 7
    monkeypatch.setattr("xai_deploy.exported.one_step.__version__", "0.0")
    open_bundle(model)
    assert calls() == 8
    monkeypatch.setattr("xai_deploy.exported.program.version_of", lambda program: "0.0")
    open_bundle(model)
    assert calls() == 9
    for _ in range(2):
        open_bundle(model, {"labels": "labels.txt"})  # relative to the folder
    assert calls() == 10
    monkeypatch.chdir(tmp_path / "deeper")
    open_bundle(model, {"labels": "labels.txt"})
    assert calls() == 11


def test_files_that_were_read_besides(stand_in: StandIn, model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    beside, elsewhere = tmp_path / "net.data", tmp_path / "elsewhere" / "arch.py"
    for path in (beside, elsewhere):
        path.write_text("1")
    stand_in.write(reads=[beside, elsewhere])
    opened = []
    for count, (path, text) in enumerate([(beside, "1"), (beside, "2"), (elsewhere, "2")], 1):
        path.write_text(text)
        opened += [open_bundle(model) for _ in range(2)]
        assert len(stand_in.calls) == count
    beside.write_text("1")
    elsewhere.write_text("1")
    assert open_bundle(model).path == opened[0].path  # it is still there
    elsewhere.unlink()
    open_bundle(model)
    assert len(stand_in.calls) == 4
    elsewhere.write_text("2")
    for bundle in opened:  # whoever has opened one can go on reading it
        bundle.read("head.onnx")
    copied = Path(shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-copy")) / "net.onnx")
    (copied.parent / "net.data").write_text("other data beside the same graph")
    before = len(stand_in.calls)
    open_bundle(copied)
    assert len(stand_in.calls) == before + 1


@pytest.mark.parametrize("damage", ["graph", "manifest", "record", "missing", "exchanged"])
def test_damaged(stand_in: StandIn, model: Path, cache: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    wanted = open_bundle(model).manifest.digest
    bundle = folder_in(cache) / "net.xai"
    if damage in ("graph", "manifest"):
        file = bundle / ("head.onnx" if damage == "graph" else "manifest.json")
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif damage == "record":
        (bundle.parent / "record.json").write_text('{"digest": 3}')
    elif damage == "missing":
        shutil.rmtree(bundle)
    else:  # a whole bundle, but another one
        manifest = Bundle.open(bundle).manifest
        (bundle / "manifest.json").write_bytes(replace(manifest, name="other").to_bytes())
        assert Bundle.open(bundle).manifest.digest != wanted
    caplog.clear()
    assert open_bundle(model).manifest.digest == wanted
    assert len(stand_in.calls) == 2
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert message.startswith(f"{model}: its bundle in the cache is damaged, and is made again (")
    open_bundle(model)
    assert len(stand_in.calls) == 2
    folder_in(cache)


def test_what_a_killed_process_left(stand_in: StandIn, model: Path, cache: Path) -> None:
    open_bundle(model)
    folder = folder_in(cache)
    folder.rename(folder.with_name("making-x"))  # killed before the last step
    (folder.with_name("making-x") / "record.json").unlink()
    open_bundle(model)
    assert len(stand_in.calls) == 2
    assert folder_in(cache) != folder


_PROCESS = """
import sys
sys.executable = "/no/python"
from xai_deploy.exported import open_bundle
print(open_bundle(sys.argv[1]).manifest.digest)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks")
def test_two_processes_at_once(stand_in: StandIn, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, and takes what it made."""
    go = stand_in.folder / "go"
    stand_in.write(f"while not os.path.exists({str(go)!r}): time.sleep(0.01)")
    monkeypatch.undo()
    environment = {**os.environ, "PATH": str(stand_in.folder), FOLDER: str(model.parent / "cache")}
    command = [sys.executable, "-c", _PROCESS, str(model)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as first:
        while not stand_in.calls:
            time.sleep(0.01)
        with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as second:
            assert second.stderr is not None
            assert second.stderr.readline() == f"{model}: another process exports it; waiting\n"
            go.touch()
            results = [process.communicate() for process in (first, second)]
    assert results[0] == results[1] == (f"{Bundle.open(stand_in.bundle).manifest.digest}\n", "")
    assert len(stand_in.calls) == 1


def test_the_bound(stand_in: StandIn, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(path.stat().st_size for path in stand_in.bundle.iterdir())
    monkeypatch.setenv(LIMIT, str(2.5 * (size + 500) / 1e6))
    made = []
    for number, split in enumerate("abc"):
        bundle = open_bundle(model, {"split": split})
        made.append(bundle.path)
        os.utime(bundle.path.parent / "used", (number, number))
        if split == "b":
            open_bundle(model, {"split": "a"})  # used again, so b is the one unused for longest
            os.utime(made[0].parent / "used", (5, 5))
            release()
            os.utime(made[0].parent / "used", (5, 5))
    assert [path.exists() for path in made] == [True, False, True]
    (cache / "notes.txt").write_text("not ours")
    (cache / "folder").mkdir()
    monkeypatch.setenv(LIMIT, "0.000001")
    open_bundle(model, {"split": "d"})
    assert [path.exists() for path in made] == [False, False, True]  # c is in use; it is never taken away
    release()
    bundle = open_bundle(model, {"split": "e"})
    assert bundle.path.exists()  # the one just made stays, however large it is
    assert len(entries(cache)) == 3
    assert (cache / "notes.txt").exists()


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan"])
def test_no_bound(stand_in: StandIn, model: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(LIMIT, text)
    with pytest.raises(CacheError, match=f"{LIMIT} is a number of megabytes above 0, not '{text}'"):
        open_bundle(model)


@linux
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_can_write_to(stand_in: StandIn, model: Path, cache: Path, mode: int) -> None:
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(
        CacheError, match=rf"cache: others can write to it \(mode {mode:04o}\).*chmod 700 it, or name another"
    ):
        open_bundle(model)
    link = cache.with_name("link")
    link.symlink_to(cache)
    os.environ[FOLDER] = str(link)
    with pytest.raises(CacheError, match="link: others can write to it"):
        open_bundle(model)
    assert stand_in.calls == []


@linux
def test_a_folder_of_somebody_else(
    stand_in: StandIn, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(0o700)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(CacheError, match="cache: belongs to another user, so it can't be the cache"):
        open_bundle(model)


@linux
def test_a_folder_that_everybody_can_replace(
    stand_in: StandIn, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = cache.with_name("shared")
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv(FOLDER, str(shared / "mine"))
    with pytest.raises(CacheError, match=r"mine: everybody can write to .*shared, and so replace the cache"):
        open_bundle(model)
    shared.chmod(0o1777)  # as /tmp
    assert open_bundle(model).path.is_relative_to(shared / "mine")


def test_a_file_in_its_place(stand_in: StandIn, model: Path, cache: Path) -> None:
    cache.touch()
    with pytest.raises(
        CacheError,
        match=rf"cache: can't be the cache of exported bundles \(it is no folder\); name another folder in {FOLDER}",
    ):
        open_bundle(model)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folders")
def test_a_home_that_cannot_be_written(stand_in: StandIn, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache")
    with pytest.raises(
        CacheError, match=r"^/proc/cache/xai-deploy/exported: can't be the cache of exported bundles \(.+\); name"
    ):
        open_bundle(model)


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, and so ignored")
    if os.name == "posix":
        assert private_folder.private_folder() == tmp_path / ".cache" / "xai-deploy" / "exported"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if os.name == "posix":
        assert private_folder.private_folder() == tmp_path / "xdg" / "xai-deploy" / "exported"
        assert (tmp_path / "xdg").stat().st_mode & 0o777 == 0o700
    assert private_folder.limit() == 5e9


def test_a_model_that_changes_meanwhile(stand_in: StandIn, model: Path, cache: Path) -> None:
    stand_in.write(f"open({str(model)!r}, 'ab').write(b'more')")
    with pytest.raises(ModelFileError, match=r"net\.onnx: changed while it was exported; try again"):
        open_bundle(model)
    assert {path.name for path in entries(cache)[0].iterdir()} == {"lock"}


def test_what_the_record_says(stand_in: StandIn, model: Path, cache: Path) -> None:
    bundle = open_bundle(model)
    assert json.loads((folder_in(cache) / "record.json").read_text()) == {
        "digest": bundle.manifest.digest,
        "reads": {},
    }
    assert time.time() - entry.last_use(folder_in(cache)) < 600


def test_an_explainer_of_a_model(stand_in: StandIn, model: Path, backend: str) -> None:
    explainer = Explainer(model, backend)
    assert explainer.bundle.path.name == "net.xai"
    assert explainer.bundle.manifest.digest == Bundle.open(stand_in.bundle).manifest.digest
