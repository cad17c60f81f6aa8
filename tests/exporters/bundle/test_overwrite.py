"""Overwriting: a reader sees the old bundle or the new one, and what a killed process left comes back or goes away."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from xai_exporters.bundle import places
from xai_exporters.bundle.stage import check_destination, staged_bundle

from xai_deploy.errors import IntegrityError
from xai_deploy.format.bundle import Bundle

from .. import onnx_nets as o
from ..running import HEAD_AND_TAIL, export_onnx


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles that differ."""
    folder = tmp_path_factory.mktemp("bundles")
    model = o.classifier()
    return [
        export_onnx(folder, model, split=s, output_path=folder / f"{s}.xai", roles=HEAD_AND_TAIL).path
        for s in ("layer", "conv_0")
    ]


def overwrite(path: Path, other: Path) -> None:
    bundle = Bundle.open(other)
    contents = {name: bundle.read(name) for name in bundle.manifest.files}
    with staged_bundle(path, bundle.manifest, contents, overwrite=True):
        pass


def can_exchange(folder: Path) -> bool:
    """Whether the system exchanges two names in one call, asked of the system itself: a fault of ours is no reason to skip."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform in ("linux", "darwin") else None
    if libc is None or not hasattr(libc, "renameat2" if sys.platform == "linux" else "renamex_np"):
        return False
    one, other = folder / "one", folder / "other"
    for path in (one, other):
        path.mkdir()
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux":
        able = libc.renameat2(-100, names[0], -100, names[1], 2) == 0  # AT_FDCWD, RENAME_EXCHANGE
    else:
        able = libc.renamex_np(*names, 2) == 0  # RENAME_SWAP
    shutil.rmtree(one)
    shutil.rmtree(other)
    return bool(able)


def test_a_reader_meanwhile(tmp_path: Path, bundles: list[Path]) -> None:
    if not can_exchange(tmp_path):
        pytest.skip("the system, or this disk, exchanges no names")
    path = tmp_path / "net.xai"
    overwrite(path, bundles[0])
    digests = {Bundle.open(bundle).manifest.digest for bundle in bundles}
    faults: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            if not (path / "manifest.json").is_file():
                faults.append("no bundle")
            try:
                seen.add(Bundle.open(path).manifest.digest)
            except Exception as error:
                faults.append(str(error))

    seen: set[str] = set()
    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(1, 101):
        overwrite(path, bundles[turn % 2])
    stop.set()
    reader.join()
    assert faults == []
    assert seen == digests
    assert os.listdir(tmp_path) == ["net.xai"]


def test_an_opened_bundle_tells_that_it_was_replaced(tmp_path: Path, bundles: list[Path]) -> None:
    path = tmp_path / "net.xai"
    overwrite(path, bundles[0])
    opened = Bundle.open(path)
    overwrite(path, bundles[1])
    with pytest.raises(IntegrityError, match="another bundle was put in its place since it was opened; open it again"):
        opened.graph("head")


@pytest.mark.parametrize("able", [True, False])
def test_old_and_new_by_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool) -> None:
    if not able:
        monkeypatch.setattr(places, "exchange", lambda *_: False)
    path, staging = tmp_path / "place", places.make(tmp_path / "place", places.PARTIAL)
    path.mkdir()
    (path / "old").touch()
    (staging / "new").touch()
    old = places.put(staging, path)
    assert os.listdir(path) == ["new"]
    places.take_back(staging, path, old)
    assert os.listdir(path) == ["old"]
    assert os.listdir(staging) == ["new"]
    places.remove(staging)
    assert os.listdir(tmp_path) == ["place"]


KILLED_BETWEEN_THE_RENAMES = """
import os, signal, sys
from pathlib import Path
from xai_exporters.bundle import places
path = Path(sys.argv[1])
places.exchange = lambda *_: False
staging = places.make(path, places.PARTIAL)
rename = os.rename
def killed(source, target):
    if source == staging:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.rename = killed
places.put(staging, path)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_what_was_aside_when_a_process_was_killed_comes_back(tmp_path: Path, bundles: list[Path]) -> None:
    path = tmp_path / "net.xai"
    overwrite(path, bundles[0])
    subprocess.run([sys.executable, "-c", KILLED_BETWEEN_THE_RENAMES, str(path)], check=False)
    assert not path.exists()
    assert len(os.listdir(tmp_path)) == 2
    check_destination(path, overwrite=True)
    assert os.listdir(tmp_path) == ["net.xai"]
    assert Bundle.open(path).manifest.digest == Bundle.open(bundles[0]).manifest.digest


ALIVE = """
import sys, time
from pathlib import Path
from xai_exporters.bundle import places
print(places.make(Path(sys.argv[1]), places.PARTIAL), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no locks on folders")
def test_a_living_process_keeps_its_folder_and_a_dead_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "net.xai"
    with subprocess.Popen([sys.executable, "-c", ALIVE, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        places.clear(path)
        assert folder.is_dir()
        process.kill()
    places.clear(path)
    assert not folder.exists()


def test_without_locks_an_hour_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_lock", lambda folder: None)
    path = tmp_path / "net.xai"
    young, old = places.make(path, places.PARTIAL), places.make(path, places.PARTIAL)
    os.utime(old, (time.time() - 4000,) * 2)
    places.clear(path)
    assert (young.exists(), old.exists()) == (True, False)


def test_other_folders_stay(tmp_path: Path) -> None:
    for name in (".net.xai.backup", ".net.xai.old.keep", "net.xai.old", ".other.xai.abc.old"):
        (tmp_path / name).mkdir()
    places.clear(tmp_path / "net.xai")
    assert len(os.listdir(tmp_path)) == 4
