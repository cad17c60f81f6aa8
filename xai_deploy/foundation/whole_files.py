"""Files that appear whole or not at all.

Each writer fills a hidden file of its own beside the destination. One rename then puts it in place, so a reader sees the old file
or the new one. The next write of the same file removes what killed writers have left (for folders: `xai_exporters.bundle.places`).
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
    """Open a file for writing. It replaces the destination when the block ends; if the block raises, the destination stays.

    Args:
        path: The destination. If it is a link, the link stays and the file that it points to is replaced. A pipe or a device is
            written to directly, and so is a file in a folder that takes no new files. A new file gets the permissions that the
            umask leaves; a replaced file keeps its own.

    Raises:
        OSError: The file can't be written; `filename` is the destination.
    """
    file = Path(os.path.realpath(path))
    if file.exists() and not (file.is_file() and os.access(file, os.W_OK)):
        with path.open("wb") as opened:  # a pipe or a device; a read-only file is refused here
            yield opened
        return
    _clear(file)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=_NEW, dir=file.parent)
    except OSError:
        with path.open("wb") as opened:  # fails as well, unless the file exists
            yield opened
        return
    part = Path(name)
    try:
        with open(handle, "wb") as opened:
            lock(handle)
            part = part.rename(part.with_suffix(_PART))  # only now: `_clear` removes parts that nobody has locked
            yield opened
            opened.flush()
            os.fsync(handle)  # without it, a crash of the system may leave an empty file
            part.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o666 & ~umask())
            if os.name == "posix":  # while it is locked; Windows can't rename an open file
                part.replace(file)
        if os.name != "posix":
            part.replace(file)
    except OSError as error:
        reason = f"can't be written ({error.strerror})"
        where = file if path.is_symlink() else path
        raise OSError(error.errno, reason, str(where)) from error  # the error of a full disk names no file
    finally:
        part.unlink(missing_ok=True)


def lock(handle: int, shared: bool = False) -> bool:
    """Lock an open file or folder until it is closed, or the process ends; a shared lock may have several holders.

    Returns:
        Whether the system and the disk support locks.

    Raises:
        BlockingIOError: Another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def umask() -> int:
    """The permission bits that new files do not get."""
    mask = os.umask(0o022)  # it can be read only by setting it
    os.umask(mask)
    return mask


def _clear(file: Path) -> None:
    """Remove the parts of this file that killed processes have left: nobody has locked them."""
    for part in file.parent.glob(f".{glob.escape(file.name)}.*{_PART}"):
        with contextlib.suppress(OSError):  # locked, gone, or not ours
            handle = os.open(part, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if lock(handle):
                    part.unlink()
            finally:
                os.close(handle)
