"""Files that appear whole or not at all.

The bytes go into a hidden file of a name of its own beside the destination, so that several writers never share one; one rename
then puts it in place. A reader sees the old file or the new one. What a killed process left goes away with the next write of
the same file. Folders: `xai_exporters.places`.
"""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_NEW, _PART = ".new", ".part"


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
    _clear(file)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=_NEW, dir=file.parent)
    except OSError:
        with path.open("wb") as opened:  # refused, too, unless the file is there
            yield opened
        return
    part = Path(name)
    try:
        with open(handle, "wb") as opened:
            lock(handle)
            part = part.rename(part.with_suffix(_PART))  # named so when it is locked: `_clear` takes what nobody holds
            yield opened
            opened.flush()
            os.fsync(handle)  # else a crash of the system may leave the new name on no bytes
            part.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o666 & ~umask())
            if os.name == "posix":  # while it is locked; Windows renames no open file
                part.replace(file)
        if os.name != "posix":
            part.replace(file)
    except OSError as error:
        reason = f"can't be written ({error.strerror})"
        where = file if path.is_symlink() else path
        raise OSError(error.errno, reason, str(where)) from error  # a full disk does not say which file
    finally:
        part.unlink(missing_ok=True)


def lock(handle: int) -> bool:
    """Lock an open file or folder until it is closed, or the process ends.

    Returns:
        Whether the system, and the disk, have locks.

    Raises:
        BlockingIOError: Another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def umask() -> int:
    """The permissions that new files do not get."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _clear(file: Path) -> None:
    """Remove what killed processes left of this file: parts that nobody holds."""
    for part in file.parent.glob(f".{glob.escape(file.name)}.*{_PART}"):
        with contextlib.suppress(OSError):  # held, gone, or not ours
            handle = os.open(part, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if lock(handle):
                    part.unlink()
            finally:
                os.close(handle)
