"""The folder of the cache: the user's own, and nobody else can write to it.

| variable | |
|---|---|
| XAI_EXPORT_CACHE | the folder; else `xai-deploy/exported` in XDG_CACHE_HOME, in ~/.cache, or on Windows in LOCALAPPDATA |
| XAI_EXPORT_CACHE_MB | how many megabytes it may hold; else 5000 |
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

from ..errors import CacheError

FOLDER, LIMIT = "XAI_EXPORT_CACHE", "XAI_EXPORT_CACHE_MB"
PRIVATE = 0o700
_DEFAULT_LIMIT = 5000  # megabytes
_ADVICE = f"name another folder in {FOLDER}, or give a bundle written by xai-export"


def limit() -> float:
    """The most bytes that the cache may hold.

    Raises:
        CacheError: The variable holds no positive number.
    """
    text = os.environ.get(LIMIT) or str(_DEFAULT_LIMIT)
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not megabytes > 0:
        raise CacheError(f"{LIMIT} is a number of megabytes above 0, not {text!r}")
    return megabytes * 1e6


def private_folder() -> Path:
    """The cache's folder. It is made if it does not exist, for the user alone.

    Raises:
        CacheError: It can't be made, or others could write to it.
    """
    folder = _place()
    try:
        _make(folder)
        _refuse_shared(folder)
    except OSError as error:
        raise CacheError(f"{folder}: can't be the cache of exported bundles ({error.strerror}); {_ADVICE}") from None
    return folder


def _place() -> Path:
    if given := os.environ.get(FOLDER):
        return Path(given).absolute()
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification: a relative path is ignored
        try:
            base = str(Path.home() / ".cache")
        except RuntimeError:
            raise CacheError(f"the user has no home folder for the cache of exported bundles; {_ADVICE}") from None
    return Path(base, "xai-deploy", "exported")


def _make(folder: Path) -> None:
    """Make a folder and those above it, for the user alone."""
    for missing in reversed([each for each in (folder, *folder.parents) if not os.path.lexists(each)]):
        missing.mkdir(PRIVATE, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(0, "it is no folder")


def _refuse_shared(folder: Path) -> None:
    """Refuse a folder, or a link to one, that others own, can write to, or can replace.

    Group members that can write to a folder above it are not refused: with one group per user, they are the user.
    """
    if not hasattr(os, "geteuid"):  # Windows: LOCALAPPDATA is the user's own
        return
    user, info = os.geteuid(), folder.stat()
    if info.st_uid != user or folder.lstat().st_uid not in (user, 0):
        raise CacheError(f"{folder}: belongs to another user, so it can't be the cache of exported bundles; {_ADVICE}")
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheError(
            f"{folder}: others can write to it (mode {stat.S_IMODE(info.st_mode):04o}), so it can't be the cache of exported "
            f"bundles; chmod 700 it, or {_ADVICE}"
        )
    for above in folder.resolve().parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:  # in a sticky folder, such as /tmp, others can't rename it
            raise CacheError(
                f"{folder}: everybody can write to {above}, and so replace the cache of exported bundles; {_ADVICE}"
            )
