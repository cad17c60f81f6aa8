"""A bundle, or a model file that is made a bundle: `open_bundle`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BundleError, CacheError, ModelFileError, NotABundleError, OptionError, SignatureError
from ..format.bundle import MANIFEST, Bundle, parse_manifest
from ..format.plain_files import opened_plain
from ..format.signature import TrustedKey
from ..foundation.mistaken import ORDER, graph_file, is_bundle, is_image
from ..foundation.paths import described, path_of
from ..foundation.printable import printable
from ..foundation.progress import step_line
from ..version import __version__
from .options import METHODS, arguments_of, depends_on_place, flag
from .private_folder import limit, private_folder

_KEY = 32  # hexadecimal digits
_MANIFEST_LIMIT = 1 << 24  # bytes; of a longer file, the beginning is no manifest

log = logging.getLogger(__name__)


def open_bundle(
    path: str | os.PathLike[str],
    export: Mapping[str, object] | None = None,
    shown: bool = False,
    trusted_key: str | os.PathLike[str] | None = None,
) -> Bundle:
    """Open a bundle, or a model file, which xai-export makes a bundle of unless the cache holds it.

    The cache knows a bundle by the model file's content and name, by the options, and by the versions of xai-export and of this
    package. It also notes the other files that xai-export read: external data, configuration, labels, imported Python files. If
    one of these changes, the bundle is made again.

    Args:
        path: A bundle's folder, or a model file (a SavedModel's folder) in a format that xai-export reads.
        export: For a model file: xai-export's options, see `options.arguments_of`.
        shown: Show at a terminal what xai-export does.
        trusted_key: PEM file of the public key that must have signed the bundle; None: it need not be signed.

    Raises:
        BundleError: The folder is not an intact bundle, or not one that the trusted key has signed.
        SignatureError: A model file is given with a trusted key.
        KeyFileError: The trusted key can't be read.
        ModelFileError: The file can't be exported, xai-export is not installed, or the cache can't be used.
        OptionError: There is no such option, or options of an export are given with a bundle.
    """
    if not isinstance(export, Mapping | None):
        raise OptionError(f"export maps options of xai-export to values; got {described(export)}")
    source, options = path_of(path, "the bundle", NotABundleError), dict(export or {})
    arguments = arguments_of(options)
    key = None if trusted_key is None else TrustedKey(trusted_key)
    if not graph_file(source).is_file():
        _refuse_options(source, options)
        return Bundle.open(source, key)
    _refuse_wrong_file(source)
    if key is not None:
        raise SignatureError(
            f"{source}: a model file is not signed, and a trusted key was given; export it with xai-export --sign KEY.pem"
        )
    from . import program  # late: a bundle needs no child process and no cache
    from .entry import Entry

    exporter = program.find(source)
    before = _identity(source)
    entry_name = _key(source, arguments, depends_on_place(options), program.version_of(exporter))
    folder, bound = private_folder(), limit()
    entry = Entry(folder / entry_name, source)
    try:
        with entry.locked(
            lambda: log.warning("%s: another process exports it; waiting", printable(str(source)))
        ) as alone:
            bundle = entry.open()
            if bundle is None:
                log.info("%s: exporting with %s into %s", printable(str(source)), exporter, entry.path)
                bundle = entry.make(alone, lambda out: _export(exporter, source, before, arguments, out, shown))
        _trim(folder, bound)
    except OSError as error:
        raise CacheError(
            f"{error.filename or folder}: the cache of exported bundles can't be used ({error.strerror})"
        ) from None
    return bundle


def _refuse_options(source: Path, options: Mapping[str, object]) -> None:
    given = [flag(name) for name in options if name != METHODS]
    if given and source.exists():
        raise OptionError(f"{source}: is a bundle; {', '.join(given)} can be given with a model file only")


def _refuse_wrong_file(source: Path) -> None:
    """Refuse a file that is often given by mistake, before anything is started."""
    if source.name == MANIFEST:
        raise NotABundleError(f"{source}: is a bundle's manifest; give its folder, {source.parent}")
    if _is_part(source):
        raise NotABundleError(f"{source}: is a part of a bundle; give its folder, {source.parent}")
    if is_image(source):
        raise NotABundleError(f"{source}: is an image; {ORDER}")
    if source.suffix == ".npz":
        raise NotABundleError(
            f"{source}: is a file; a bundle is a folder, and a recording can be xai-check's REFERENCE only"
        )


def _is_part(source: Path) -> bool:
    """Whether a bundle's manifest lies beside a file and names it. Other programs have files called manifest.json, too."""
    if not is_bundle(source.parent):
        return False
    try:
        with opened_plain(source.parent / MANIFEST) as file:
            return source.name in parse_manifest(file.read(_MANIFEST_LIMIT)).files
    except (BundleError, OSError):
        return False


def _key(source: Path, arguments: list[str], place: bool, version: str) -> str:
    """What the bundle is made of, as the name of its entry."""
    try:
        with open(graph_file(source), "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"{source}: can't be read ({error.strerror})") from None
    parts: list[Any] = [digest, source.name, sorted(arguments), version, __version__]
    if place:
        parts += [os.getcwd(), os.environ.get("PYTHONPATH", "")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_KEY]


def _identity(source: Path) -> tuple[int, ...]:
    info = graph_file(source).stat()
    return info.st_ino, info.st_size, info.st_mtime_ns


def _export(
    exporter: Path, source: Path, before: tuple[int, ...], arguments: list[str], out: Path, shown: bool
) -> Sequence[str]:
    """Write the bundle, and log what a user should know; returns the files that were read beside the model file.

    `before` is the `_identity` of the file whose content is in the entry's name.
    """
    from . import program

    with step_line(shown) as show:
        report = program.run(exporter, source, arguments, out, lambda step: show(f"{source.name}: {step}"))
    if _identity(source) != before:
        raise ModelFileError(f"{source}: changed while it was exported; try again")
    notes = logging.WARNING if Bundle.open(out).manifest.input.preprocess.assumed else logging.INFO
    for level, line in (
        *((notes, note) for note in report.get("notes", [])),
        (logging.WARNING, report.get("layer_note")),
    ):
        if line:
            log.log(level, "%s: %s", printable(str(source)), printable(line))
    reads: list[str] = report.get("reads", [])
    return reads


def _trim(folder: Path, bound: float) -> None:
    """Remove the bundles that were used longest ago, until the others fit into the bound."""
    from .entry import last_use, made, remove

    entries = [path for path in folder.iterdir() if len(path.name) == _KEY and path.is_dir() and not path.is_symlink()]
    sizes = {path: _size(path) for entry in entries for path in made(entry)}
    total = sum(sizes.values())
    for path in sorted(sizes, key=last_use):
        if total <= bound:
            return
        if remove(path):
            log.info("%s: removed from the cache, which may hold %.0f MB", path, bound / 1e6)
            total -= sizes[path]


def _size(path: Path) -> int:
    """The bytes of all files in a folder; one that another process is removing counts as far as it is there."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
