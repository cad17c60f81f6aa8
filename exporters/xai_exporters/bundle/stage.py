"""Write bundles: whole or not at all.

Everything goes into a hidden temporary folder beside the destination. After the verification the manifest follows, and one
rename puts the bundle in place; see `places`. Bundles that belong together wait until the last one is verified. A process that
is killed before that leaves at most a hidden folder, which the next export removes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from xai_deploy.format.bundle import MANIFEST, Bundle, FileRecord, Manifest, parse_manifest
from xai_deploy.format.places import in_bundle
from xai_deploy.format.randomised import name_of_step
from xai_deploy.format.signature import SigningKey, signature_path
from xai_deploy.foundation.whole_files import umask

from ..errors import OutputError
from . import places


def check_destination(path: Path, overwrite: bool, signed: bool = False) -> None:
    """Refuse early what would be refused at the end.

    Args:
        path: Where the bundle goes.
        overwrite: Replace what is there.
        signed: A signature goes beside it.

    Raises:
        OutputError: The destination or the signature exists, or it lies in a bundle, or its folder does not exist.
    """
    places.clear(path)
    if path.exists() or path.is_symlink():
        if not overwrite:
            raise OutputError(f"{path}: exists already; give --overwrite to replace it, or another name with -o")
        if not path.is_dir() or path.is_symlink() or not (path / MANIFEST).is_file():
            raise OutputError(f"{path}: exists and is not a bundle; --overwrite replaces bundles only")
    if in_bundle(path):
        raise OutputError(f"{path}: lies in a bundle, which holds its own files only; choose another name with -o")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder; create it first")
    place = signature_path(path)
    if signed and (place.is_dir() or (place.exists() and not overwrite)):
        raise OutputError(f"{place}: exists already; give --overwrite to replace it, or another name with -o")


def randomised_path(path: Path, step: int, of: int | None) -> Path:
    """Where the bundle of a step of randomisation goes: beside the network's own."""
    assert of is not None  # without randomisation there is no step
    return path.with_name(name_of_step(path.name, step, of))


Put = Callable[[Path, Mapping[str, bytes]], None]
"""Writes a folder that is no bundle: (destination, path within the folder -> content); the paths are written with /."""


class Draft:
    """A bundle in its hidden folder while its files are made: each is written at once, so memory holds one at a time."""

    def __init__(self, path: Path, folder: Path) -> None:
        """`path`: the destination; `folder`: the hidden one."""
        self.path, self.folder = path, folder
        self.files: dict[str, FileRecord] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write a file.

        Raises:
            OutputError: It can't be written.
        """
        _put(self.path, self.folder, name, data)
        self.files[name] = FileRecord(hashlib.sha256(data).hexdigest(), len(data))

    def remove(self, name: str) -> None:
        """Take a file out again."""
        del self.files[name]
        (self.folder / name).unlink()

    def file(self, name: str) -> Path:
        """The place of a file until the bundle is whole."""
        return self.folder / name


class Stage:
    """Writes folders to hidden temporary ones beside their destinations; see `staged`."""

    def __init__(self, overwrite: bool, key: SigningKey | None = None) -> None:
        self.overwrite, self.key = overwrite, key
        self.signatures: list[tuple[Path, Path]] = []  # the hidden folder of each, and its place
        self.moves: list[tuple[Path, Path]] = []
        self.manifests: list[tuple[Path, bytes]] = []

    def draft(self, path: Path) -> Draft:
        """Begin a bundle.

        Raises:
            OutputError: The destination exists, or can't be written to.
        """
        check_destination(path, self.overwrite, self.key is not None)
        return Draft(path, self._folder(path))

    def finish(self, draft: Draft, manifest: Manifest) -> Bundle:
        """The bundle, for verification; its files are those of the draft.

        Raises:
            OutputError: The folder can't be made readable for others.
        """
        whole = replace(manifest, files=draft.files).to_bytes()
        _show(draft.path, draft.folder)
        if self.key is not None:
            self._sign(self.key, draft, whole)
        self.manifests.append((draft.folder / MANIFEST, whole))
        return Bundle(draft.folder, parse_manifest(whole))

    def _sign(self, key: SigningKey, draft: Draft, manifest: bytes) -> None:
        """Write the signature of a bundle to a hidden file beside its place."""
        files = {name: record.sha256 for name, record in draft.files.items()}
        signed = key.sign(draft.path.name, {**files, MANIFEST: hashlib.sha256(manifest).hexdigest()})
        place = signature_path(draft.path)
        _put(place, self._folder(place, self.signatures), place.name, signed)

    def folder(self, path: Path, contents: Mapping[str, bytes]) -> None:
        """Stage a folder that is no bundle; the caller has checked that the destination may be written.

        Raises:
            OutputError: It can't be written.
        """
        folder = self._folder(path)
        for name, data in contents.items():
            _put(path, folder, name, data)
        _show(path, folder)

    def _folder(self, path: Path, moves: list[tuple[Path, Path]] | None = None) -> Path:
        """A hidden folder beside `path`, which takes its place, or whose file does."""
        places.clear(path)
        try:
            folder = places.make(path, places.PARTIAL)
        except OSError as error:
            raise OutputError(f"{path.parent}: can't be written to ({error.strerror})") from None
        (self.moves if moves is None else moves).append((folder, path))
        return folder


@contextmanager
def staged(overwrite: bool, key: SigningKey | None = None) -> Iterator[Stage]:
    """Stage folders one after the other; at the end bundles get their manifests and all move into place, or none.

    Args:
        overwrite: Replace existing bundles.
        key: Signs the bundles; None: they are not signed.

    Raises:
        OutputError: A folder can't be written.
    """
    stage = Stage(overwrite, key)
    try:
        yield stage
        try:
            # a folder is a bundle only with its manifest, so manifests come last
            for file, whole in stage.manifests:
                _write(file, whole)
            signatures = [(folder / place.name, place) for folder, place in stage.signatures]
            _move([*stage.moves, *signatures], overwrite)
        except OSError as error:
            old = str(error.filename)  # a staged folder, its manifest, or the folder to replace
            paths = (path for staging, path in stage.moves if old.startswith(str(staging)) or old == str(path))
            which = next(paths, stage.moves[0][1])
            raise OutputError(f"{which}: can't be put in place ({error.strerror})") from None
    finally:
        for staging, _ in (*stage.moves, *stage.signatures):
            places.remove(staging)


@contextmanager
def staged_bundle(path: Path, manifest: Manifest, contents: Mapping[str, bytes], overwrite: bool) -> Iterator[Bundle]:
    """One bundle alone; see `staged`."""
    with staged(overwrite) as stage:
        draft = stage.draft(path)
        for name, data in contents.items():
            draft.write(name, data)
        yield stage.finish(draft, manifest)


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder that is no bundle, whole or not at all; an existing one is replaced. It is a `Put`.

    Raises:
        OutputError: It can't be written.
    """
    with staged(overwrite=True) as stage:
        stage.folder(path, contents)


def _move(moves: Sequence[tuple[Path, Path]], overwrite: bool) -> None:
    """Move all folders and files into place, or none. The replaced ones are removed afterwards.

    Between the moves of a bundle and of its signature the old signature lies beside the new bundle; whoever asks for a signature
    refuses that, and tries again.
    """
    done: list[tuple[Path, Path, Path | None]] = []
    try:
        for staging, path in moves:
            if path.exists() and not overwrite:
                raise OutputError(f"{path}: appeared during the export; give --overwrite to replace it")
            done.append((staging, path, places.put(staging, path)))
    except BaseException:  # failed or interrupted in between
        for moved in reversed(done):  # undo, the last one first
            places.take_back(*moved)
        raise
    for _, _, old in done:
        if old is not None:
            places.remove(old)


def _put(path: Path, folder: Path, name: str, data: bytes) -> None:
    """Write a file of the hidden folder of `path`."""
    try:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _write(folder / name, data)
    except OSError as error:
        raise OutputError(f"{path}: can't be written ({error.strerror})") from None


def _show(path: Path, folder: Path) -> None:
    """Give the hidden folder of `path` the rights of any folder: mkdtemp's 0700 would hide it from a server's user."""
    try:
        folder.chmod(0o777 & ~umask())
    except OSError as error:
        raise OutputError(f"{path}: can't be written ({error.strerror})") from None


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # without it, a crash of the system may leave an empty file
