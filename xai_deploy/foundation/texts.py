"""Text files that a user names: read within a bound, so that a device or a file of any size takes no memory."""

from __future__ import annotations

import errno
from pathlib import Path

LIMIT = 16 << 20  # bytes


def read_text(path: Path, limit: int = LIMIT) -> str:
    """The text of a UTF-8 file, with or without a byte order mark, its lines ended by "\\n"; a pipe is read, too.

    Args:
        path: The file.
        limit: Its bytes.

    Raises:
        OSError: It can't be read, or is larger than the limit.
        ValueError: It is not UTF-8, or the path holds a zero byte.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB", str(path))
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
