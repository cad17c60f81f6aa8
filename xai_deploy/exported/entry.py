"""One entry of the cache: a folder with a bundle, the record of what it was made of, and two locks.

lock          held by the process that makes or removes the entry
used          held, together with others, by every process that has the bundle open; its time is that of the last use
NAME.xai/     the bundle
record.json   written last: an entry without it is not whole
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BundleError
from ..format.bundle import Bundle
from ..foundation import schema
from ..foundation.printable import printable
from ..foundation.whole_files import lock, write_whole
from .private_folder import PRIVATE

_RECORD, _LOCK, _USED, _MADE, _MAKING = "record.json", "lock", "used", "made-", "making-"
_LONGEST_RECORD = 1 << 20  # bytes
_POLL = 0.1  # seconds between two tries to get a lock
_UNUSED = 86_400  # seconds; without locks, a bundle that nobody opened for so long may be removed

_in_use: dict[Path, int] = {}
"""The bundles' folders that this process uses, each with its locked file's number, until it ends: a graph is read when a method
first needs it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What an entry was made of.

    Attributes:
        digest: The digest of the bundle's manifest.
        reads: The files that xai-export read beside the model file -> sha256. A relative path starts at the model file's folder.
    """

    digest: str
    reads: dict[str, str]


class Entry:
    """An entry; its folder need not exist.

    Args:
        path: Its folder.
        source: The model file.
    """

    def __init__(self, path: Path, source: Path) -> None:
        self.path = path
        self.source = source

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[bool]:
        """Hold the entry's lock. If another process holds it, call `waiting` once, and wait.

        Yields:
            Whether nobody else can hold it. Without locks (Windows, some network disks) two processes may make one bundle twice.
        """
        called = False
        while True:
            self.path.mkdir(PRIVATE, exist_ok=True)
            with contextlib.suppress(FileNotFoundError), open(self.path / _LOCK, "ab") as file:
                try:
                    alone = lock(file.fileno())
                except BlockingIOError:
                    if not called:
                        waiting()
                    called = True
                    time.sleep(_POLL)
                    continue
                if os.path.samestat(
                    os.fstat(file.fileno()), os.stat(self.path / _LOCK)
                ):  # else it was removed meanwhile
                    yield alone
                    return

    def open(self) -> Bundle | None:
        """The bundle of which all files that it was made of are unchanged; None if there is none. A damaged one is removed."""
        for folder in made(self.path):
            try:
                bundle = self._open(folder)
            except BundleError as error:
                log.warning(
                    "%s: its bundle in the cache is damaged, and is made again (%s)", printable(str(self.source)), error
                )
                shutil.rmtree(folder)
                continue
            if bundle is not None:
                _use(folder)
                return bundle
        return None

    def _open(self, folder: Path) -> Bundle | None:
        try:
            with open(folder / _RECORD, "rb") as file:
                record = schema.load(Record, json.loads(file.read(_LONGEST_RECORD)), _RECORD)
        except (OSError, ValueError) as error:
            raise BundleError(f"{_RECORD} can't be read: {error}") from None
        if any(_sha256(self._beside / path) != sha256 for path, sha256 in record.reads.items()):
            return None
        bundle = Bundle.open(self._bundle(folder))
        if bundle.manifest.digest != record.digest:
            raise BundleError("it is not the one that was made")
        return bundle

    def make(self, alone: bool, export: Callable[[Path], Sequence[str]]) -> Bundle:
        """Make the bundle. If anything fails, nothing of it stays.

        Args:
            alone: What `locked` gave. If nobody else can be making it, what killed processes have left is removed first.
            export: Writes the bundle at the path that it gets; returns the files that it has read beside the model file.
        """
        for left in self.path.glob(f"{_MAKING}*") if alone else ():
            shutil.rmtree(left)
        staging = Path(tempfile.mkdtemp(prefix=_MAKING, dir=self.path))  # for the user alone
        try:
            bundle = self._bundle(staging)
            reads = [Path(path) for path in export(bundle)]
            bundle.chmod(PRIVATE)
            names = [path.relative_to(self._beside) if self._beside in path.parents else path for path in reads]
            digests = {str(path): _sha256(self._beside / path) or "" for path in names}
            record = Record(Bundle.open(bundle).manifest.digest, digests)
            write_whole(staging / _RECORD, json.dumps(dataclasses.asdict(record), indent=1).encode())
            folder = staging.rename(self.path / staging.name.replace(_MAKING, _MADE))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        _use(folder)
        return Bundle.open(self._bundle(folder))

    @property
    def _beside(self) -> Path:
        """The model file's folder, where paths of a record begin."""
        return self.source.absolute().parent

    def _bundle(self, folder: Path) -> Path:
        return folder / f"{self.source.stem}.xai"


def made(path: Path) -> list[Path]:
    """The bundles' folders of an entry, the one that was used last first."""
    return sorted(path.glob(f"{_MADE}*"), key=last_use, reverse=True)


def last_use(folder: Path) -> float:
    """When a bundle was opened last, in seconds since 1970."""
    with contextlib.suppress(OSError):
        return (folder / _USED).stat().st_mtime
    return 0.0


def _use(folder: Path) -> None:
    """Note that a bundle is used now, and keep it from being removed while this process lives. For the lock's holder."""
    if folder not in _in_use:
        file = os.open(folder / _USED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        lock(file, shared=True)  # at once: whoever removes a bundle holds the entry's lock first
        _in_use[folder] = file
    os.utime(folder / _USED)


def remove(folder: Path) -> bool:
    """Remove a bundle's folder, unless a process makes or uses it, and the entry if it was its last; returns whether it is gone."""
    entry = folder.parent
    with contextlib.suppress(OSError), open(entry / _LOCK, "ab") as making, open(folder / _USED, "ab") as using:
        alone = lock(making.fileno()) and lock(using.fileno())
        if alone or time.time() - last_use(folder) > _UNUSED:
            shutil.rmtree(folder, ignore_errors=True)
            if alone and {path.name for path in entry.iterdir()} == {_LOCK}:
                shutil.rmtree(entry, ignore_errors=True)
    return not folder.exists()


def _sha256(path: Path) -> str | None:
    """A file's digest; None if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
