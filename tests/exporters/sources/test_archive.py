"""Zip archives whose directory says one thing and whose bytes another, or that unpack to more than any memory."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from xai_exporters import Request
from xai_exporters.errors import SourceError
from xai_exporters.sources import archive, load_source


@pytest.fixture(scope="module")
def good() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(8.0)}, buffer)
    return buffer.getvalue()


def deflated_zeros(size: int, times: int) -> bytes:
    """A stream that inflates to `times` pieces of `size` zeros."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join([*(pack.compress(bytes(size)) for _ in range(times)), pack.flush()])


def by_hand(entries: Sequence[tuple[str, int, bytes, int, int | None]], comment: bytes = b"") -> bytes:
    """An archive of (name, method, bytes, declared size, header's offset or None for where it is)."""
    body, directory = b"", b""
    for name, method, data, declared, at in entries:
        offset = len(body) if at is None else at
        sizes = struct.pack("<3L2H", 0, len(data), declared, len(name), 0)
        if at is None:
            body += b"PK\x03\x04" + struct.pack("<5H", 20, 0, method, 0, 0) + sizes + name.encode() + data
        directory += b"PK\x01\x02" + struct.pack("<6H", 20, 20, 0, method, 0, 0) + sizes
        directory += struct.pack("<3H2L", 0, 0, 0, 0, offset) + name.encode()
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, len(entries), len(entries), len(directory), len(body), len(comment)
    )
    return body + directory + end + comment


def bomb(_: bytes) -> bytes:
    """6 MB that unpack to 6 GiB, as in `data/0` of a state dict."""
    data = deflated_zeros(1 << 24, 16)  # 256 MiB
    return by_hand([("n/data.pkl", 0, b"\x80\x02}.", 4, None), *(
        (f"n/data/{i}", 8, data, 1 << 28, None) for i in range(24))])  # fmt: skip


def quoted(_: bytes) -> bytes:
    """Many entries over one piece of data."""
    data = deflated_zeros(1 << 16, 1)
    first = by_hand([("n/data/0", 8, data, 1 << 16, None)])
    assert first.startswith(b"PK")
    return by_hand([("n/data/0", 8, data, 1 << 16, None), ("n/data/1", 8, data, 1 << 16, 0)])


def many(_: bytes) -> bytes:
    return by_hand([]).replace(struct.pack("<2H", 0, 0) * 2, struct.pack("<4H", 0, 0, 0xFFFF, 0xFFFF))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bomb, r"a zip bomb: \d+ bytes that unpack to 644\d+, above 4 times the file \+ 512 MiB"),
        (quoted, "entries overlap"),
        (lambda _: by_hand([("n/a", 0, b"x", 1, None)] * 2), "two entries of one name"),
        (lambda _: by_hand([("n/a", 0, b"x", 1 << 20, None)]), "'n/a' is not as large as it says"),
        (many, "its directory|directory is not where"),
        (lambda good: good + by_hand([]), "directory is not where its end says"),
        (lambda good: good + b"PK" + bytes(40), "bytes after its end"),
        (lambda good: good[:-3] + b"\0\1\0!", "bytes after its end|damaged"),
        (lambda good: good[:-30], "damaged or truncated"),
        (lambda good: b"PK" + bytes(300) + good, "directory is not where|bytes behind|contradict"),
    ],
)
def test_refused(tmp_path: Path, good: bytes, make: Callable[[bytes], bytes], says: str) -> None:
    (tmp_path / "net.pt").write_bytes(make(good))
    with pytest.raises(SourceError, match=rf"net\.pt: .*({says})"):
        load_source(Request(tmp_path / "net.pt"))


def test_two_end_records(tmp_path: Path, good: bytes) -> None:
    """A 64-bit end record that another reader would take instead."""
    directory = good.index(b"PK\x01\x02")
    end = good[-22:]
    length = len(good) - 22 - directory
    record = archive._END64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, length, directory)
    locator = archive._LOCATOR.pack(b"PK\x06\x07", 0, 3, 1)
    (tmp_path / "net.pt").write_bytes(good[:-22] + record + locator + end)
    with pytest.raises(SourceError, match="end records contradict each other"):
        load_source(Request(tmp_path / "net.pt"))


def test_an_entry_that_inflates_beyond_what_it_declares(tmp_path: Path) -> None:
    """torch stops at the declared size, and says so."""
    data = deflated_zeros(1 << 24, 4)  # 64 MiB, declared as 32 bytes
    entries = [("n/data.pkl", 8, data, 32, None), ("n/version", 0, b"3\n", 2, None)]
    (tmp_path / "net.pt").write_bytes(by_hand(entries))
    with pytest.raises(SourceError, match="damaged or truncated"):
        load_source(Request(tmp_path / "net.pt"))


def test_sound_archives(tmp_path: Path, good: bytes) -> None:
    (tmp_path / "net.pt").write_bytes(good)
    assert {"data.pkl", "data/0"} <= archive.names_in(tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "zip64", "w") as opened, opened.open("n/data.pkl", "w", force_zip64=True) as entry:
        entry.write(b"x")
    assert archive.names_in(tmp_path / "zip64") == {"data.pkl"}
