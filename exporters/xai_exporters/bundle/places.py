"""Temporary folders beside their destinations, and how they take their places.

Linux and macOS can exchange two names in one step: then a reader sees the old folder or the new one. On other systems the old
folder is moved aside first. The process that makes a temporary folder holds a lock on it as long as it lives. A folder whose lock
nobody holds was left by a killed process, and is cleared away.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from xai_deploy.foundation.whole_files import lock

PARTIAL, ASIDE, NEW = ".partial", ".old", ".new"  # how the names of temporary folders end
_AGE = 3600  # seconds; on a system without locks, an older folder counts as abandoned
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_AT_FDCWD = -100  # Linux: paths are relative to the current folder
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)

_held: dict[Path, int] = {}  # the locks of this process


def make(path: Path, kind: str) -> Path:
    """Make a hidden folder beside `path`, locked until `remove`.

    The folder gets its final name only after it is locked. Otherwise another process could take it for abandoned.

    Args:
        path: The destination.
        kind: How the name ends: `PARTIAL` or `ASIDE`.

    Raises:
        OSError: The folder can't be made.
    """
    parent, begin = path.absolute().parent, f".{path.name}."
    folder = Path(tempfile.mkdtemp(prefix=begin, suffix=NEW, dir=parent))
    lock = _lock(folder)
    named = folder.with_name(folder.name.removesuffix(NEW) + kind)
    os.rename(folder, named)
    if lock is not None:
        _held[named] = lock
    return named


def remove(folder: Path) -> None:
    """Remove what `make` made, whatever it holds now."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _held.pop(folder, None)) is not None:
        os.close(lock)


def put(staging: Path, path: Path) -> Path | None:
    """Move a folder into place.

    Returns:
        The present place of the folder that was at `path` before: `staging` if the names were exchanged; None if there was none.

    Raises:
        OSError: It can't be moved. Everything is back in its old place.
    """
    if not path.exists():
        os.rename(staging, path)
        return None
    if exchange(staging, path):
        return staging
    aside = make(path, ASIDE)
    os.rename(path, aside / path.name)
    try:
        os.rename(staging, path)
    except BaseException:
        os.rename(aside / path.name, path)
        remove(aside)
        raise
    return aside


def take_back(staging: Path, path: Path, old: Path | None) -> None:
    """Undo `put`, whose result is `old`."""
    if old == staging:
        exchange(staging, path)
        return
    os.rename(path, staging)
    if old is not None:
        os.rename(old / path.name, path)
        remove(old)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step.

    Returns:
        Whether it was done; False if the system or the disk can't exchange names.

    Raises:
        OSError: The system can, but refused.
    """
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform != "win32" else None
    names = os.fsencode(one), os.fsencode(other)
    # renameat2 is in Linux's C library, renamex_np in that of macOS
    if (rename := getattr(libc, "renameat2", None)) is not None:
        failed = rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)
    elif (rename := getattr(libc, "renamex_np", None)) is not None:
        failed = rename(*names, _EXCHANGE)
    else:
        return False
    code = ctypes.get_errno()
    if failed and code not in _UNSUPPORTED:
        raise OSError(code, os.strerror(code), str(other))
    return not failed


def clear(path: Path) -> None:
    """Clean up after killed processes: put back an old bundle that was moved aside; remove all other leftovers beside `path`."""
    for folder in path.absolute().parent.glob(f".{glob.escape(path.name)}.*"):
        if folder.suffix not in (PARTIAL, ASIDE, NEW) or not _abandoned(folder):
            continue
        with contextlib.suppress(OSError):  # another process was faster
            # the old bundle was moved aside, and its replacement did not follow
            if folder.suffix == ASIDE and not path.exists():
                os.rename(folder / path.name, path)
        shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Whether the process that made a folder is gone."""
    if folder in _held:
        return False
    try:
        old = time.time() - folder.stat().st_mtime > _AGE
        lock = _lock(folder)
    except OSError:  # locked, or gone in the meantime
        return False
    if lock is None:
        return old
    os.close(lock)
    return old or folder.suffix != NEW  # a new one may be about to be locked


def _lock(folder: Path) -> int | None:
    """Lock a folder; None if the system, or the disk, has no locks.

    Raises:
        BlockingIOError: Another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY) if os.name == "posix" else None
    if handle is None:
        return None
    try:
        held = lock(handle)
    except BlockingIOError:
        os.close(handle)
        raise
    if held:
        return handle
    os.close(handle)
    return None
