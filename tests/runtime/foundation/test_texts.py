"""Text files that a user names."""

from __future__ import annotations

from pathlib import Path

import pytest

from xai_deploy.foundation.texts import LIMIT, read_text


def test_lines_and_mark(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffä\r\nb\rc\n".encode())
    assert read_text(tmp_path / "a") == "ä\nb\nc\n"


def test_more_than_the_limit(tmp_path: Path) -> None:
    """A device without end, and a file that takes no room on the disk."""
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(LIMIT + 1)
    for path in (Path("/dev/zero"), tmp_path / "sparse"):
        with pytest.raises(OSError, match="larger than 16 MiB"):
            read_text(path)


def test_no_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a")
