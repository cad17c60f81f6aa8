"""Write bundles: whole or not at all.

Everything goes into a hidden temporary folder beside the destination; once it is verified the manifest follows, and one
rename makes it a bundle. Several that belong together wait for the last one to be verified.
A process killed before that leaves at most the hidden folder without a manifest, which the next export takes away.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from xai_deploy.bundle import MANIFEST, Bundle, Manifest, file_records, parse_manifest

from .errors import OutputError

_LEFTOVER_AGE = 3600  # seconds


def check_destination(path: Path, overwrite: bool) -> None:
    """Refuse early what would be refused at the end.

    Raises:
        OutputError: The destination exists, or its folder does not.
    """
    if path.exists() or path.is_symlink():
        if not overwrite:
            raise OutputError(f"{path}: exists already; give --overwrite to replace it, or another name with -o")
        if not path.is_dir() or path.is_symlink() or not (path / MANIFEST).is_file():
            raise OutputError(f"{path}: exists and is not a bundle; --overwrite replaces bundles only")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder; create it first")


def randomised_path(path: Path, step: int, of: int | None) -> Path:
    """Where the bundle of a step of randomisation goes: beside the network's own."""
    return path.with_name(f"{path.name.removesuffix('.xai')}.randomised-{step}-of-{of}.xai")


class Stage(Protocol):
    """Writes a bundle's files to a temporary folder and hands it out, to be verified."""

    def __call__(self, path: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Bundle:
        """Args: where the bundle shall be, its manifest (sizes and hashes are filled in here), every other file."""
        ...


@contextmanager
def staged_bundles(overwrite: bool) -> Iterator[Stage]:
    """Stage bundles one after the other; at the end they get their manifests and move into place, all or none.

    Args:
        overwrite: Replace bundles that are there.

    Raises:
        OutputError: A folder can't be written.
    """
    staged: list[tuple[Path, Path, bytes]] = []

    def stage(path: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> Bundle:
        check_destination(path, overwrite)
        _remove_leftovers(path)
        try:
            staging = _staging(path)
        except OSError as error:
            raise OutputError(f"{path.parent}: can't be written to ({error.strerror})") from None
        whole = replace(manifest, files=file_records(contents)).to_bytes()
        staged.append((staging, path, whole))
        try:
            for name, data in contents.items():
                _write(staging / name, data)
            _open_to_readers(staging)
        except OSError as error:
            raise OutputError(f"{path}: can't be written ({error.strerror})") from None
        return Bundle(staging, parse_manifest(whole))

    try:
        yield stage
        try:
            for staging, _, whole in staged:
                _write(staging / MANIFEST, whole)
            _move([(staging, path) for staging, path, _ in staged])
        except OSError as error:
            raise OutputError(f"{staged[0][1]}: can't be put in place ({error.strerror})") from None
    finally:
        _remove(staging for staging, _, _ in staged)


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """A folder that is no bundle, whole or not at all, in the place of one that is there.

    Args:
        path: Where.
        contents: Every file by its path within, with / between folders.

    Raises:
        OutputError: It can't be written.
    """
    _remove_leftovers(path)
    try:
        staging = _staging(path)
    except OSError as error:
        raise OutputError(f"{path.parent}: can't be written to ({error.strerror})") from None
    try:
        for name, data in contents.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            _write(staging / name, data)
        _open_to_readers(staging)
        _move([(staging, path)])
    except OSError as error:
        raise OutputError(f"{path}: can't be written ({error.strerror})") from None
    finally:
        _remove([staging])


def _staging(path: Path) -> Path:
    """A hidden temporary folder beside a destination."""
    return Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.absolute().parent))


def _open_to_readers(folder: Path) -> None:
    folder.chmod(0o777 & ~_umask())  # mkdtemp's 0700 would hide it from a server's user


@contextmanager
def staged_bundle(path: Path, manifest: Manifest, contents: Mapping[str, bytes], overwrite: bool) -> Iterator[Bundle]:
    """One bundle alone; see `staged_bundles`."""
    with staged_bundles(overwrite) as stage:
        yield stage(path, manifest, contents)


def _remove_leftovers(path: Path) -> None:
    """Remove what killed exports to the same destination left, an hour ago or more: younger ones may still be at work."""
    for folder in path.absolute().parent.glob(f".{glob.escape(path.name)}.*.partial"):
        try:
            if time.time() - folder.stat().st_mtime > _LEFTOVER_AGE:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # gone in the meantime
            continue


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename all into place, or none; bundles that are there step aside first and are removed after."""
    aside: dict[Path, Path] = {}
    try:
        for staging, path in moves:
            if path.exists():
                aside[path] = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.absolute().parent))
                os.rename(path, aside[path] / path.name)
            os.rename(staging, path)
    except BaseException:  # failed or interrupted in between
        for staging, path in reversed(moves):
            if not staging.exists():
                os.rename(path, staging)
            if path in aside and (aside[path] / path.name).exists():
                os.rename(aside[path] / path.name, path)
        _remove(aside.values())
        raise
    _remove(aside.values())


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
