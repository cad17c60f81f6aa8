"""The bundle, format 1: a folder `NAME.xai/` that carries a network, cut at its target layer, to where it is deployed.

`manifest.json` describes the network and records size and sha256 of every other file, and a digest of itself computed
with the digest field blank. The graphs:

- `head`: network input -> `activation` [N,K,h,w] and the side tensors that pass beside the cut;
- `tail`: `activation` and side tensors -> `logits` [N,classes] (before a final Softmax or Sigmoid) and the network's
  outputs;
- `gradient` (where every operator of the tail has a rule): `activation`, side tensors, `target` int64 [N] and `seed`
  float32 [N,classes] -> the tail's outputs and `gradient` [N,K,h,w] = d(s . logits)/d(activation), where s is the unit
  vector of the target (of the predicted class for target -1, none for target -2) + the seed;
- `input-gradient`, `guided-gradient` (on request): the network input, `target` and `seed` -> the same outputs and
  `gradient` in the shape and layout of the input;
- `relevance`, `relevance-COMPOSITE`: as `gradient`, with `relevance` [N,K,h,w] for the gradient: what arrives of s by the
  composite's rules; `pixel-relevance`, `pixel-relevance-COMPOSITE` (on request) likewise at the input;
- `fused-METHOD` (on request): the network input and `target` -> the network's outputs under their own names and
  `saliency_map` [N,h,w] in [0,1]; for any runtime, without this package;
- `pixelwise-tail` (only where global average pooling and one linear layer follow the cut):
  `activation` -> `pixel_logits` [N,h*w,classes] without bias; logits = mean over pixels + bias.

Nothing here trusts the folder: names may not leave it, links and special files are refused, every byte is hashed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from . import schema
from .errors import (
    FormatVersionError,
    IntegrityError,
    ManifestError,
    MissingRoleError,
    NotABundleError,
    UnsafePathError,
)
from .onnx_guard import check_graph
from .randomised import Randomised

FORMAT = 1
MANIFEST = "manifest.json"
ACTIVATION = "activation"
LOGITS = "logits"
PIXEL_LOGITS = "pixel_logits"
TARGET = "target"
SEED = "seed"
GRADIENT = "gradient"
RELEVANCE = "relevance"
SALIENCY = "saliency_map"
RESERVED = (ACTIVATION, LOGITS, PIXEL_LOGITS, TARGET, SEED, GRADIENT, RELEVANCE)
FUSED = "fused-"  # begins the roles of graphs that give a map beside the network's outputs
PREDICTED, BY_SEED = -1, -2  # what `target` says beside a class

_MANIFEST_LIMIT = 64 << 20  # bytes; a manifest with 100,000 classes' worth of anything is far below
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]*")
_DIGEST = re.compile(rb'"digest": "([0-9a-f]{64})"')


@dataclass(frozen=True)
class Preprocess:
    """How an 8-bit image becomes the network's input: (pixel * scale - mean) / std, per channel.

    Attributes:
        resize: "stretch" to the input size, or the length of the shorter side before a centre crop, in pixels.
        interpolation: Filter of the resize.
        antialias: Widen the filter when shrinking, as PIL and torchvision do; False is OpenCV's plain interpolation.
        color: Channel order that the network takes.
        scale: Factor on the 8-bit value.
        mean: Subtracted after scaling, one per channel.
        std: Divided by, one per channel.
        assumed: Nobody stated these values at export; they are a preset's.
    """

    resize: Literal["stretch"] | int = "stretch"
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    antialias: bool = True
    color: Literal["RGB", "BGR", "GRAY"] = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    assumed: bool = False


@dataclass(frozen=True)
class Input:
    """The network's image input. The batch is symbolic; sizes in pixels."""

    name: str
    layout: Literal["NCHW", "NHWC"]
    channels: int
    height: int
    width: int
    dtype: Literal["float32", "float16", "uint8"]
    preprocess: Preprocess

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one input in the network's own layout."""
        if self.layout == "NCHW":
            return self.channels, self.height, self.width
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class TargetLayer:
    """Where the network was cut.

    Attributes:
        asked: The layer name given to `--split`.
        tensor: The tensor's name in the source graph.
        shape: (K, h, w) of the activation as the head gives it.
        dtype: Its element type.
        layout: The tensor's own layout; the head transposes anything else to NCHW.
        prefix_tokens: Class and register tokens before the grid (token networks).
    """

    asked: str
    tensor: str
    shape: tuple[int, int, int]
    dtype: Literal["float32", "float16"]
    layout: Literal["NCHW", "NHWC", "NTC"] = "NCHW"
    prefix_tokens: int = 0


@dataclass(frozen=True)
class Side:
    """A tensor that passes beside the cut from head to tail; its first dimension is the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Output:
    """An output of the source network.

    Attributes:
        name: Its own name.
        tensor: The tail's tensor that holds it.
        shape: Without the batch.
        kind: What it holds; logarithms of probabilities count as logits, whose softmax is the probabilities, too.
        activation: What stands between the logits and this output, where it is the one explained: the first whose kind
            is not "other".
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    kind: Literal["logits", "probabilities", "other"]
    activation: Literal["softmax", "sigmoid", "none"] = "none"


@dataclass(frozen=True)
class Graph:
    """One ONNX file of the bundle.

    Attributes:
        file: Its name.
        opset: Version of the standard operators.
        start: What it takes: the network's input, or the activation and its side tensors.
    """

    file: str
    opset: int
    start: Literal["image", "activation"] = "activation"


@dataclass(frozen=True)
class FileRecord:
    """What the manifest remembers of a file: sha256 in hexadecimal, size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`. `left_out`: role -> why this network has no such graph. `composites` names the relevance graphs;
    `labels` the text file with one label a line; `randomised`, where it is there, which weights are random."""

    format: int
    digest: str
    producer: str
    name: str
    input: Input
    target: TargetLayer
    classes: int
    outputs: tuple[Output, ...]
    graphs: dict[str, Graph]
    left_out: dict[str, str] = field(default_factory=dict)
    side: tuple[Side, ...] = ()
    composites: dict[str, str] = field(default_factory=dict)
    labels: str | None = None
    files: dict[str, FileRecord] = field(default_factory=dict)
    randomised: Randomised | None = None

    @property
    def network(self) -> str:
        """A digest of head and tail: of the network's weights, whatever else lies in the bundle."""
        files = [self.files[self.graphs[role].file] for role in ("head", "tail")]
        return hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The manifest as written to disk, its digest filled in."""
        blank = _encode(replace(self, digest=""))
        return _encode(replace(self, digest=hashlib.sha256(blank).hexdigest()))


def _encode(manifest: Manifest) -> bytes:
    document = schema.dump(manifest)
    if manifest.randomised is None:
        del document["randomised"]  # as format 1 was written before it had the key
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_manifest(data: bytes, where: str = MANIFEST) -> Manifest:
    """Read and validate a manifest.

    Args:
        data: The file's bytes.
        where: Its path, for messages.

    Raises:
        ManifestError: Not JSON, or not what format 1 says.
        FormatVersionError: A format that this version does not know.
        IntegrityError: The manifest's digest does not fit its bytes.
        UnsafePathError: A file name that is not a plain name inside the folder.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(document, dict) or type(document.get("format")) is not int:
        raise ManifestError(f"{where}: no format version; is this an xai-deploy bundle?")
    if document["format"] != FORMAT:
        raise FormatVersionError(
            f"{where}: bundle format {document['format']}, this version of xai-deploy reads format {FORMAT}; "
            + ("update xai-deploy" if document["format"] > FORMAT else "export the network again")
        )
    try:
        manifest = schema.load(Manifest, document, "manifest")
    except (schema.SchemaError, RecursionError) as error:
        raise ManifestError(f"{where}: {error}") from None
    digests = _DIGEST.findall(data)
    blank = _DIGEST.sub(b'"digest": ""', data)
    if len(digests) != 1 or digests[0].decode() != hashlib.sha256(blank).hexdigest():
        raise IntegrityError(
            f"{where}: changed since the bundle was written (its digest does not fit); export it again"
        )
    _check(manifest, where)
    return manifest


def _check(manifest: Manifest, where: str) -> None:
    """What the types alone do not say."""
    for name in manifest.files:
        if not _PLAIN_NAME.fullmatch(name) or name == MANIFEST:
            raise UnsafePathError(f"{where}: {name!r} is not a plain file name inside the bundle")
    named = {f"graph {role!r}": graph.file for role, graph in manifest.graphs.items()}
    if manifest.labels is not None:
        named["labels"] = manifest.labels
    for what, file in named.items():
        if file not in manifest.files:
            if not _PLAIN_NAME.fullmatch(file):
                raise UnsafePathError(f"{where}: {file!r} is not a plain file name inside the bundle")
            raise ManifestError(f"{where}: {what} names {file!r}, of which no hash is recorded")
    for role in ("head", "tail"):
        if role not in manifest.graphs:
            raise ManifestError(f"{where}: the graph {role!r} is missing")
    image, preprocess = manifest.input, manifest.input.preprocess
    if min(*image.image_shape, *manifest.target.shape, manifest.classes) < 1:
        raise ManifestError(f"{where}: sizes must be positive")
    if manifest.randomised is not None and (fault := manifest.randomised.fault()) is not None:
        raise ManifestError(f"{where}: randomised: {fault}")
    if not len(preprocess.mean) == len(preprocess.std) == image.channels or 0.0 in preprocess.std:
        raise ManifestError(f"{where}: mean and std need {image.channels} values each, std none of them zero")
    if isinstance(preprocess.resize, int) and preprocess.resize < max(image.height, image.width):
        raise ManifestError(f"{where}: the shorter side is resized to {preprocess.resize}, smaller than the crop")


class Bundle:
    """An opened bundle: a validated manifest, and files that are hashed whenever they are read.

    Attributes:
        path: The folder.
        manifest: Its manifest.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open a bundle and verify every file in it.

        Raises:
            BundleError: One of its kinds; see `errors`.
        """
        folder = Path(path)
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "no such folder"
            raise NotABundleError(f"{folder}: {what}; a bundle is a folder written by xai-export")
        try:
            data = _read_plain(folder / MANIFEST, limit=_MANIFEST_LIMIT)
        except FileNotFoundError:
            raise NotABundleError(
                f"{folder}: no {MANIFEST} in it; a bundle is a folder written by xai-export"
            ) from None
        bundle = cls(folder, parse_manifest(data, str(folder / MANIFEST)))
        for file in bundle.manifest.files:
            bundle.read(file)
        return bundle

    def read(self, file: str) -> bytes:
        """The bytes of one recorded file, checked against the manifest.

        Raises:
            IntegrityError: The file is missing, or its size or sha256 differs.
            UnsafePathError: It is a link or not a plain file.
        """
        record, path = self.manifest.files[file], self.path / file
        try:
            data = _read_plain(path, limit=record.size)
        except FileNotFoundError:
            raise IntegrityError(f"{path}: the manifest lists it, but it is missing; copy the bundle again") from None
        if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
            raise IntegrityError(f"{path}: changed since the bundle was written; copy or export the bundle again")
        return data

    def has(self, role: str) -> bool:
        """Whether the bundle holds a graph of this role."""
        return role in self.manifest.graphs

    def graph(self, role: str) -> bytes:
        """The ONNX file of a role.

        Raises:
            MissingRoleError: The bundle has none.
            IntegrityError: The file changed, or is not an ONNX graph.
            UnsafePathError: It refers to other files.
        """
        if not self.has(role):
            raise MissingRoleError(f"{self.path}: holds no {role!r} graph (it holds {', '.join(self.manifest.graphs)})")
        file = self.manifest.graphs[role].file
        data = self.read(file)
        check_graph(data, str(self.path / file))
        return data

    @property
    def activation(self) -> str:
        """What the network puts on the logits it is explained by: "softmax", "sigmoid" or "none"."""
        explained = (output.activation for output in self.manifest.outputs if output.kind != "other")
        return next(explained, "none")

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per class, or nothing where they are not known."""
        if self.manifest.labels is None:
            return ()
        text = self.read(self.manifest.labels).decode("utf-8", "replace").replace("\r\n", "\n")
        lines = text.removesuffix("\n").split("\n")  # splitlines would also split at U+2028 and other rarities
        if len(lines) != self.manifest.classes:
            raise ManifestError(f"{self.path}: {len(lines)} labels for {self.manifest.classes} classes")
        return tuple(lines)


def propagates_back(role: str) -> bool:
    """Whether a role's graph takes a target and a seed, and gives what arrives from them."""
    return not role.startswith(FUSED) and ("gradient" in role or "relevance" in role)


def file_records(contents: Mapping[str, bytes]) -> dict[str, FileRecord]:
    """Size and sha256 of each file, as the manifest records them."""
    return {name: FileRecord(hashlib.sha256(data).hexdigest(), len(data)) for name, data in contents.items()}


def _read_plain(path: Path, limit: int) -> bytes:
    """Read a plain file of at most `limit` bytes without following links or blocking on a pipe."""
    if path.is_symlink():
        raise UnsafePathError(f"{path}: is a link; a bundle holds plain files only")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafePathError(f"{path}: can't be read as a plain file ({error.strerror})") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnsafePathError(f"{path}: is not a plain file")
    with open(descriptor, "rb") as file:
        if status.st_size > limit:
            raise IntegrityError(f"{path}: larger than the {limit} bytes it may have; copy the bundle again")
        return file.read(
            status.st_size + 1
        )  # never by `limit`, which an attacker may have written; one more shows growth
