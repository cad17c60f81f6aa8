"""Zip archives whose directory is changed by hand: the sizes and places that it states are not those of the entries."""

from __future__ import annotations

import io
import struct
import zipfile


def changed(data: bytes, name: str, larger: int = 0, moved: int = 0) -> bytes:
    """An archive whose directory states another size or place of an entry.

    Args:
        data: The archive; what stands before it stays.
        name: The entry's name, or its end.
        larger: Bytes that the entry has more, according to the directory.
        moved: Bytes that it begins later.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        [entry] = [entry for entry in archive.infolist() if entry.filename.endswith(name)]
        place = archive.start_dir
    while data[place + 46 :][: len(entry.filename)].decode("latin1") != entry.filename:
        place += 46 + sum(struct.unpack("<3H", data[place + 28 : place + 34]))
    sizes = struct.pack("<2L", entry.compress_size + larger, entry.file_size + larger)
    at = struct.pack("<L", entry.header_offset + moved)
    return data[: place + 20] + sizes + data[place + 28 : place + 42] + at + data[place + 46 :]
