"""Files appear whole or not at all, also where several write the same one."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from xai_deploy.foundation.whole_files import umask, whole_file, write_whole


def test_several_writers_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = {bytes([65 + i]) * 300_000 for i in range(4)}

    def save(data: bytes) -> None:
        for _ in range(8):
            with whole_file(path) as file:
                for start in range(0, len(data), 50_000):
                    file.write(data[start : start + 50_000])
            seen.add(path.read_bytes())

    seen: set[bytes] = set()
    threads = [threading.Thread(target=save, args=[data]) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= contents
    assert os.listdir(tmp_path) == ["file"]


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"can't be written \(No space left on device\)") as caught:
        write_whole(tmp_path / "file", b"x")
    assert caught.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_permissions(tmp_path: Path) -> None:
    write_whole(tmp_path / "new", b"x")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o666 & ~umask()
    (tmp_path / "new").chmod(0o640)
    write_whole(tmp_path / "new", b"y")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_whole(tmp_path / "pipe", b"through")
    reader.join()
    assert got == [b"through"]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "file", b"x")
