"""Write a bundle: whole or not at all.

Everything goes into a hidden temporary folder beside the destination, the manifest last; one rename makes it a bundle.
A process killed at any moment leaves at most that hidden folder, which holds no readable bundle under a bundle's name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from xai_deploy.bundle import MANIFEST, Manifest, file_records

from .errors import OutputError


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
def staged_bundle(path: Path, manifest: Manifest, contents: Mapping[str, bytes], overwrite: bool) -> Iterator[Path]:
    """Write the bundle to a temporary folder, hand that out to be verified, then move it into place.

    Args:
        path: Where the bundle shall be.
        manifest: The manifest; sizes and hashes are filled in here.
        contents: Every other file.
        overwrite: Replace a bundle that is there.

    Raises:
        OutputError: The folder can't be written.
    """
    check_destination(path, overwrite)
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.absolute().parent))
    except OSError as error:
        raise OutputError(f"{path.parent}: can't be written to ({error.strerror})") from None
    try:
        try:
            for name, data in contents.items():
                _write(staging / name, data)
            _write(staging / MANIFEST, replace(manifest, files=file_records(contents)).to_bytes())
            staging.chmod(0o777 & ~_umask())  # mkdtemp's 0700 would hide the bundle from a server's user
        except OSError as error:
            raise OutputError(f"{path}: can't be written ({error.strerror})") from None
        yield staging
        try:
            _move(staging, path)
        except OSError as error:
            raise OutputError(f"{path}: can't be put in place ({error.strerror})") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
