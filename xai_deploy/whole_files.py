"""Files that appear whole or not at all.

The bytes go into a hidden file of a name of its own beside the destination, so that several writers never share one; one rename
then puts it in place. A reader sees the old file or the new one. Folders: `xai_exporters.writer`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PREFIX, SUFFIX = ".xai-", ".part"


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to a file, whole or not at all; see `whole_file`."""
    with whole_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to be written; it takes its place when the block ends, and not at all where the block raises.

    Args:
        path: The destination. A link stays, and what it points to is replaced; a pipe or a device is written to directly, as is
            a file in a folder that takes no new files. A new file gets the permissions that the umask leaves, another one keeps
            its own.

    Raises:
        OSError: It can't be written; `filename` is the destination.
    """
    file = Path(os.path.realpath(path))
    if file.exists() and not (file.is_file() and os.access(file, os.W_OK)):
        with path.open("wb") as opened:  # a pipe; or refused, as it should be
            yield opened
        return
    try:
        handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=SUFFIX, dir=file.parent)
    except OSError:
        with path.open("wb") as opened:  # refused, too, unless the file is there
            yield opened
        return
    part = Path(name)
    try:
        with open(handle, "wb") as opened:
            yield opened
            opened.flush()
            os.fsync(handle)  # else a crash of the system may leave the new name on no bytes
        part.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o666 & ~umask())
        part.replace(file)
    except OSError as error:
        reason = f"can't be written ({error.strerror})"
        raise OSError(
            error.errno, reason, str(file if path.is_symlink() else path)
        ) from error  # a full disk does not say which file
    finally:
        part.unlink(missing_ok=True)


def umask() -> int:
    """The permissions that new files do not get."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
