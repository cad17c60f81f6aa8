"""An opened bundle: a folder `NAME.xai/` that carries a network, cut at its target layer, to where it is deployed.

The module `manifest` describes the contents. Nothing here trusts the folder: names may not leave it, links and special
files are refused, and every byte is hashed.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import (
    BundleError,
    IntegrityError,
    KeyFileError,
    ManifestError,
    MissingRoleError,
    NotABundleError,
    SignatureError,
)
from ..foundation.mistaken import ORDER, is_image, is_network, is_url
from ..foundation.paths import described, path_of
from .further_inputs import FurtherInputs
from .graphs import (
    ACTIVATION,
    BY_SEED,
    CHOICE,
    DENSE,
    FULL_GRADIENT,
    GRADIENT,
    LOGITS,
    NETWORK,
    OWN_MAP,
    PIXEL_LOGITS,
    POSITION_COLUMNS,
    POSITION_LOGITS,
    POSITION_ROWS,
    PREDICTED,
    REFERENCE,
    RELEVANCE,
    RESERVED,
    ROW,
    SALIENCY,
    SCORE_GRADIENT,
    SEED,
    SHARES,
    TARGET,
    VERSUS,
    VERSUS_ROW,
    VERSUS_WHERE,
    WHERE,
    FileRecord,
    Graph,
    Port,
    fused_method,
    fused_role,
)
from .image_input import Input, Preprocess
from .layers import LEVELS, Level, Side, TargetLayer, at_level, role_anywhere, role_at, role_of
from .manifest import (
    FORMAT,
    MANIFEST,
    Activation,
    Explained,
    Manifest,
    Output,
    between,
    file_records,
)
from .parsing import parse_manifest
from .parts import joined, read_parts
from .plain_files import Ranges, missing, read_plain
from .signature import LIMIT, Signature, TrustedKey, signature_path

if TYPE_CHECKING:
    from .guard import Guarded

__all__ = [
    "ACTIVATION",
    "BY_SEED",
    "CHOICE",
    "DENSE",
    "FORMAT",
    "FULL_GRADIENT",
    "GRADIENT",
    "LEVELS",
    "LOGITS",
    "MANIFEST",
    "NETWORK",
    "OWN_MAP",
    "PIXEL_LOGITS",
    "POSITION_COLUMNS",
    "POSITION_LOGITS",
    "POSITION_ROWS",
    "PREDICTED",
    "REFERENCE",
    "RELEVANCE",
    "RESERVED",
    "ROW",
    "SALIENCY",
    "SCORE_GRADIENT",
    "SEED",
    "SHARES",
    "TARGET",
    "VERSUS",
    "VERSUS_ROW",
    "VERSUS_WHERE",
    "WHERE",
    "Activation",
    "Bundle",
    "Explained",
    "FileRecord",
    "FurtherInputs",
    "Graph",
    "Input",
    "Level",
    "Manifest",
    "Output",
    "Port",
    "Preprocess",
    "Side",
    "TargetLayer",
    "at_level",
    "between",
    "file_records",
    "fused_method",
    "fused_role",
    "parse_manifest",
    "role_anywhere",
    "role_at",
    "role_of",
]

MANIFEST_LIMIT = 16 << 20  # bytes; the manifest of a bundle with 30 graphs has 100 kB
_TRIES = 5  # attempts to open a bundle that is replaced while it is read
_PAUSE = 0.05  # seconds between two of them, if the signature is that of another bundle: folder and signature move one by one


class _ReplacedError(IntegrityError):
    """Another bundle has taken the place of the one that was opened."""


class _OtherSignedError(SignatureError):
    """The trusted key has signed another bundle than the one in this place."""


class Bundle:
    """An opened bundle: a validated manifest, and files that are hashed whenever they are read.

    Attributes:
        path: The folder.
        manifest: Its manifest.
        signature: The signature that was checked; None if no key was given.
    """

    def __init__(self, path: Path, manifest: Manifest, signature: Signature | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self.signature = signature

    @classmethod
    def open(cls, path: str | os.PathLike[str], trusted_key: TrustedKey | None = None) -> Bundle:
        """Open a bundle and verify every file in it. A bundle that is replaced meanwhile is opened again.

        Args:
            path: Its folder.
            trusted_key: Refuse a bundle that this key has not signed, and one that holds anything else than what it signed.

        Raises:
            BundleError: One of its subclasses; see `errors`.
        """
        folder = path_of(path, "the bundle", NotABundleError)
        if not isinstance(trusted_key, TrustedKey | None):
            raise KeyFileError(f"trusted_key is a format.signature.TrustedKey; got {described(trusted_key)}")
        for _ in range(_TRIES - 1):
            try:
                return cls._open(folder, trusted_key)
            except _ReplacedError:
                pass
            except _OtherSignedError:
                time.sleep(_PAUSE)
        return cls._open(folder, trusted_key)

    @classmethod
    def _open(cls, folder: Path, trusted_key: TrustedKey | None) -> Bundle:
        if not folder.is_dir():
            if (problem := is_url(folder)) is not None:
                raise NotABundleError(problem)
            if folder.exists() and is_image(folder):
                raise NotABundleError(f"{folder}: is an image; {ORDER}")
            if folder.exists() and is_network(folder):
                raise NotABundleError(f"{folder}: is a network; make a bundle of it first: xai-export {folder}")
            if not folder.exists() and is_network(folder):
                raise NotABundleError(f"{folder}: no such file")
            what = "is a file" if folder.exists() else "no such folder"
            raise NotABundleError(f"{folder}: {what}; a bundle is a folder written by xai-export")
        try:
            data = read_plain(folder / MANIFEST, limit=MANIFEST_LIMIT)
        except FileNotFoundError:
            if is_image(folder):
                raise NotABundleError(f"{folder}: is a folder of images; {ORDER}") from None
            raise NotABundleError(
                f"{folder}: no {MANIFEST} in it; a bundle is a folder written by xai-export"
            ) from None
        signature = None if trusted_key is None else _checked_signature(folder, data, trusted_key)
        bundle = cls(folder, parse_manifest(data, str(folder / MANIFEST)), signature)
        if signature is not None:
            bundle._require_signed(signature)
        for file in bundle.manifest.files:
            bundle.read(file)
        return bundle

    def _require_signed(self, signature: Signature) -> None:
        """Compare the files that the manifest records, and those in the folder, with those that were signed.

        Raises:
            SignatureError: A file was added, left out, or has other bytes.
        """
        recorded = {name: record.sha256 for name, record in self.manifest.files.items()}
        signed = {name: sha256 for name, sha256 in signature.files.items() if name != MANIFEST}
        there = {entry.name for entry in os.scandir(self.path)} - {MANIFEST}
        if added := sorted((there | signed.keys()) - recorded.keys()):
            raise SignatureError(f"{self.path / added[0]}: is no part of the bundle that was signed; remove it")
        if changed := [name for name in recorded if signed.get(name) != recorded[name]]:
            raise SignatureError(
                f"{self.path / changed[0]}: is not what was signed; get the signed bundle again, or have it signed again"
            )

    def read(self, file: str) -> bytes:
        """The bytes of one recorded file, checked against the manifest.

        A file that differs is read again: while a bundle is replaced and put back, it may be that of the other one.

        Raises:
            IntegrityError: The file is missing, or its size or sha256 differs.
            UnsafePathError: The file is a link or not a plain file.
        """
        return self._again(lambda: self._read(file))

    def _again(self, read: Callable[[], bytes]) -> bytes:
        for more in (True, True, False):
            try:
                return read()
            except IntegrityError:
                self._check_replaced()
                if not more:
                    raise
        raise AssertionError  # the last turn returns or raises

    def _read(self, file: str) -> bytes:
        record, path = self.manifest.files[file], self.path / file
        try:
            data = read_plain(path, limit=record.size)
        except FileNotFoundError:
            raise missing(path) from None
        if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
            raise IntegrityError(f"{path}: changed since the bundle was written; copy or export the bundle again")
        return data

    def _join(self, graph: Graph, whole: FileRecord) -> bytes:
        """The ONNX file that the parts of a graph make up."""
        where = str(self.path / graph.file)
        data = self._read(graph.file)
        parts, begin = read_parts(data, where, self.manifest.files, whole.size)
        with Ranges(self.path) as ranges:
            data = joined(data, begin, parts, ranges)
        if hashlib.sha256(data).hexdigest() != whole.sha256:
            for file in {part.file for part in parts}:
                self._read(file)  # refuses the one that has changed
            raise IntegrityError(f"{where}: its parts are not the graph that the manifest records; export it again")
        return data

    def _check_replaced(self) -> None:
        """Distinguish a damaged file from a file of another bundle that has taken the place of this one.

        Raises:
            IntegrityError: The folder now holds another bundle.
        """
        try:
            there = parse_manifest(read_plain(self.path / MANIFEST, limit=MANIFEST_LIMIT)).digest
        except (OSError, BundleError):
            return
        if there != self.manifest.digest:
            raise _ReplacedError(f"{self.path}: another bundle was put in its place since it was opened; open it again")

    def has(self, role: str) -> bool:
        """Whether the bundle holds a graph of this role."""
        return role in self.manifest.graphs

    def graph(self, role: str) -> bytes:
        """The ONNX file of a role.

        Raises:
            MissingRoleError: The bundle has no graph of this role.
            IntegrityError: The file changed, or is not an ONNX graph.
            UnsafePathError: The graph refers to other files.
            UnsafeGraphError: The graph could do harm, or does not match the manifest.
        """
        return self.guarded(role)[0]

    def guarded(self, role: str) -> tuple[bytes, Guarded]:
        """The ONNX file of a role, as `graph` gives it, and the checks that decide about each batch."""
        if not self.has(role):
            raise MissingRoleError(f"{self.path}: holds no {role!r} graph (it holds {', '.join(self.manifest.graphs)})")
        graph, whole = self.manifest.graphs[role], self.manifest.graphs[role].whole
        data = self.read(graph.file) if whole is None else self._again(lambda: self._join(graph, whole))
        return data, guard(data, str(self.path / graph.file), self.manifest, role)

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per class; empty if the labels are not known."""
        if self.manifest.labels is None:
            return ()
        text = self.read(self.manifest.labels).decode("utf-8", "replace").replace("\r\n", "\n")
        lines = text.removesuffix("\n").split("\n")  # splitlines would also split at U+2028 and other rarities
        if self.manifest.named not in (None, len(lines)):
            raise ManifestError(f"{self.path}: {len(lines)} labels for {self.manifest.named} classes")
        return tuple(lines)


def guard(data: bytes, where: str, manifest: Manifest, role: str) -> Guarded:
    """Refuse the graph of a role that could do harm, or does not match the manifest.

    Args:
        data: The bytes of its file.
        where: Its path, for messages.
        manifest: The bundle's.
        role: Its role.

    Raises:
        IntegrityError, UnsafePathError, UnsafeGraphError: See `Bundle.graph`.
    """
    from .guard import check_graph  # late: importing the package opens no graph

    graph, image = manifest.graphs[role], manifest.input
    # Bytes of one image in float32, with what is beside it. The engine never runs a fused graph, so its memory is not bounded.
    size = None if fused_method(role) is not None else 4 * (math.prod(image.image_shape) + manifest.further.size)
    guarded = check_graph(data, where, size, {port.name: port.shape for port in graph.takes})
    if size is not None:
        guarded.check_ports(graph, manifest.batch)
    return guarded


def _checked_signature(folder: Path, manifest: bytes, trusted_key: TrustedKey) -> Signature:
    """The signature of the bundle whose manifest has these bytes.

    Raises:
        SignatureError: It is missing, another key made it, or it is that of another bundle.
        UnsafePathError: It is a link or not a plain file.
    """
    place = signature_path(folder)
    try:
        data = read_plain(place, LIMIT)
    except FileNotFoundError:
        raise SignatureError(
            f"{folder}: is not signed, and a trusted key was given; its signature would be {place.name} beside it"
        ) from None
    signature = trusted_key.check(data, str(place))
    if signature.files.get(MANIFEST) != hashlib.sha256(manifest).hexdigest():
        raise _OtherSignedError(
            f"{folder / MANIFEST}: is not the one that was signed; get the signed bundle again, or have it signed again"
        )
    return signature
