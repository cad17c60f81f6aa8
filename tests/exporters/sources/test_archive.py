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

from xai_deploy.foundation import zip_files

from ...support.zips import changed
from .. import nets
from ..running import program, trace


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
    record = zip_files.END64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, length, directory)
    locator = zip_files.LOCATOR.pack(b"PK\x06\x07", 0, 3, 1)
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


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return program(nets.plain(), tmp_path_factory.mktemp("pt2") / "net.pt2").read_bytes()


def within(data: bytes, end: str, change: Callable[[bytes], bytes]) -> bytes:
    """An archive with another form of one entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name.endswith(end) else old.read(name))
    return buffer.getvalue()


def deep(data: bytes) -> bytes:
    for _ in range(2):
        data = by_hand([("n/inner", 0, data, len(data), None)])
    return data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        # torch puts up to 64 bytes of padding between an entry's header and its data: 20 bytes more end in the next header
        (lambda d: changed(d, "weights/weight_0", larger=20), "an archive whose entries overlap ('archive/data/weights/weight_1')"),
        (lambda d: changed(d, "sample_inputs/model.pt", larger=20), "an archive whose entries overlap ('archive/archive_format')"),
        (lambda d: changed(d, "weights/weight_1", moved=-16), "an archive whose entries overlap ('archive/data/weights/weight_1')"),
        (lambda d: changed(d, ".data/serialization_id", larger=20), "overlap ('archive/.data/serialization_id' and what follows"),
        (lambda d: changed(d, "weights/weight_1", moved=1), "entry 'archive/data/weights/weight_1' is not where"),
        (
            lambda d: within(d, "model.pt", lambda i: changed(i, "data/0", larger=20)),
            "'archive/data/sample_inputs/model.pt' in it is an archive whose entries overlap ('archive/version')",
        ),
        (
            lambda d: within(d, "model.pt", lambda i: within(i, "data/0", quoted)),
            "'archive/data/0' in it is an archive whose entries overlap ('n/data/1')",
        ),
        (lambda d: within(d, "model.pt", deep), "an archive with archives more than 2 deep in it"),
        (lambda d: within(d, "model.pt", lambda _: by_hand([("n", 8, b"", 1 << 31, None)])), "in it is a zip bomb"),
    ],
    ids=["weights", "inputs", "before", "directory", "beside", "nested", "twice nested", "deep", "nested bomb"],
)  # fmt: skip
@pytest.mark.parametrize("trusted", [False, True])
def test_a_program_that_is_unsound(
    tmp_path: Path, exported: bytes, change: Callable[[bytes], bytes], says: str, trusted: bool
) -> None:
    """Consent to its code excuses none of it."""
    (tmp_path / "n.pt2").write_bytes(change(exported))
    with pytest.raises(SourceError) as caught:
        load_source(Request(tmp_path / "n.pt2", trust_code=trusted))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'n.pt2'}: ")
    assert says in message
    assert message.endswith("; refused")
    assert "\n" not in message


def test_torchscript_and_keras_that_are_unsound(tmp_path: Path) -> None:
    scripted = trace(nets.plain(), tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(changed(scripted, "data.pkl", larger=20))
    with pytest.raises(SourceError, match="entries overlap"):
        load_source(Request(tmp_path / "net.pt", trust_code=True))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        written.writestr("config.json", "{}")
        written.writestr("model.weights.h5", bytes(99))
    (tmp_path / "net.keras").write_bytes(changed(buffer.getvalue(), "config.json", larger=8))
    with pytest.raises(
        SourceError, match=r"net\.keras: an archive whose entries overlap \('model\.weights\.h5'\); refused"
    ):
        load_source(Request(tmp_path / "net.keras"))


def test_archives_without_check_sums(tmp_path: Path) -> None:
    """torch writes such on request, and reads them."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.arange(8.0)}, tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(tmp_path / "net.pt") as opened:
        assert opened.testzip() == "net/data.pkl"
    assert "data.pkl" in archive.names_in(tmp_path / "net.pt")


def test_sound_archives_of_other_writers(tmp_path: Path) -> None:
    """Sizes after the data, names beyond ASCII and compression, as a stream writes them."""

    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("n/data.pkl", b"x" * 99)
        opened.writestr("n/größe", b"")
        opened.writestr("n/데이터", b"y" * 99)
    (tmp_path / "zip").write_bytes(stream.getvalue())
    assert archive.names_in(tmp_path / "zip") == {"data.pkl", "größe", "데이터"}
