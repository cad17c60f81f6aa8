"""Write a bundle: whole or not at all.

Everything goes into a hidden temporary folder beside the destination; once it is verified the manifest follows, and one
rename makes it a bundle.
A process killed before that leaves at most the hidden folder without a manifest, which the next export takes away.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

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


@contextmanager
def staged_bundle(path: Path, manifest: Manifest, contents: Mapping[str, bytes], overwrite: bool) -> Iterator[Bundle]:
    """Write the files to a temporary folder, hand them out to be verified, then add the manifest and move it into place.

    Args:
        path: Where the bundle shall be.
        manifest: The manifest; sizes and hashes are filled in here.
        contents: Every other file.
        overwrite: Replace a bundle that is there.

    Raises:
        OutputError: The folder can't be written.
    """
    check_destination(path, overwrite)
    _remove_leftovers(path)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.absolute().parent))
    except OSError as error:
        raise OutputError(f"{path.parent}: can't be written to ({error.strerror})") from None
    try:
        try:
            for name, data in contents.items():
                _write(staging / name, data)
            staging.chmod(0o777 & ~_umask())  # mkdtemp's 0700 would hide the bundle from a server's user
        except OSError as error:
            raise OutputError(f"{path}: can't be written ({error.strerror})") from None
        whole = replace(manifest, files=file_records(contents)).to_bytes()
        yield Bundle(staging, parse_manifest(whole))
        try:
            _write(staging / MANIFEST, whole)
            _move(staging, path)
        except OSError as error:
            raise OutputError(f"{path}: can't be put in place ({error.strerror})") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what killed exports to the same destination left, an hour ago or more: younger ones may still be at work."""
    for folder in path.absolute().parent.glob(f".{glob.escape(path.name)}.*.partial"):
        try:
            if time.time() - folder.stat().st_mtime > _LEFTOVER_AGE:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # gone in the meantime
            continue


def _move(staging: Path, path: Path) -> None:
    """Rename into place; a bundle that is there steps aside first and is removed after."""
    if not path.exists():
        os.rename(staging, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.absolute().parent))
    try:
        os.rename(path, old / path.name)
        os.rename(staging, path)
    finally:
        if not path.exists():  # failed or interrupted in between
            os.rename(old / path.name, path)
        shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
