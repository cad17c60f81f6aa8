"""The weights in a SavedModel's folder `variables`: an index, which is a sorted table of LevelDB's, and the numbers beside it.

Tables: github.com/google/leveldb, doc/table_format.md; the entries: tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from . import Array
from .wire import field, fields, varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 40  # bytes before the magic number
_CRC = 6 << 3 | 5  # BundleEntryProto's crc32c, 32 bits


def checkpoint(arrays: Mapping[str, Array]) -> tuple[bytes, bytes]:
    """The index and the numbers of float32 arrays by their names. The checksums, which OpenVINO does not look at, are 0."""
    entries = [(b"", field(1, 1) + field(3, field(1, 1)))]  # one file of numbers; written by version 1
    numbers = b""
    for name, array in sorted(arrays.items()):
        raw = array.astype("<f4").tobytes()
        shape = fields(2, [field(1, size) for size in array.shape])
        where = field(4, len(numbers)) + field(5, len(raw)) + varint(_CRC) + bytes(4)
        entries.append((name.encode(), field(1, 1) + field(2, shape) + where))
        numbers += raw
    return _table(entries), numbers


def _table(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A block of entries, an empty block of metadata, the index of blocks, and the footer that says where both lie."""
    data, handles = b"", list[bytes]()
    for content in (_block(entries), _block([]), b""):
        block = content or _block([(entries[-1][0] + b"~", handles[0])])
        handles.append(varint(len(data)) + varint(len(block)))
        data += block + bytes(5)  # not compressed; its checksum
    footer = handles[1] + handles[2]
    return data + footer.ljust(_FOOTER, b"\0") + struct.pack("<Q", _MAGIC)


def _block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Keys and values, each key in full, and where each begins."""
    parts = [varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries]
    starts = [sum(map(len, parts[:i])) for i in range(max(len(parts), 1))]
    return b"".join(parts) + struct.pack(f"<{len(starts) + 1}I", *starts, len(starts))
