"""Reads `manifest.json` strictly: whatever contradicts the format is refused, with its place in the file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from ..errors import FormatVersionError, IntegrityError, ManifestError, UnsafePathError
from ..foundation import schema
from . import bounds, format1
from .graphs import ACTIVATION, LOGITS, Port
from .image_input import written
from .layers import LEVELS, OWN_ROLES, at_level, role_at
from .manifest import FORMAT, MANIFEST, Manifest, activations, between, regions
from .parts import PARTS
from .rows import CHOICES, OBJECTNESS, ROWS

FEATURES: frozenset[str] = frozenset({LEVELS, ROWS, CHOICES, OBJECTNESS, PARTS})
"""The names that `requires` may hold. A new feature that older readers must not overlook gets a name here."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]*")
_DIGEST = re.compile(rb'"digest": "([0-9a-f]{64})"')


def parse_manifest(data: bytes, where: str = MANIFEST) -> Manifest:
    """Read and validate a manifest.

    Args:
        data: The file's bytes.
        where: Its path, for messages.

    Raises:
        ManifestError: The file is not JSON, or contradicts its format.
        FormatVersionError: This version does not know the format, or a feature that the bundle requires.
        IntegrityError: The manifest's digest does not fit its bytes.
        UnsafePathError: A file name is not a plain name inside the folder.
    """
    try:
        document = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not valid JSON ({error}); copy the bundle again, or export it anew") from None
    if not isinstance(document, dict) or type(document.get("format")) is not int:  # isinstance would let True pass
        raise ManifestError(f"{where}: no format version; is this an xai-deploy bundle?")
    number = document["format"]
    if not 1 <= number <= FORMAT:
        raise FormatVersionError(
            f"{where}: bundle format {number}, this version of xai-deploy reads formats 1 to {FORMAT}; "
            + ("update xai-deploy" if number > FORMAT else "export the network again")
        )
    _check_features(document, where)
    try:
        if number == 1:
            manifest = format1.with_ports(schema.load(Manifest, format1.upgraded(document), "manifest"))
        else:
            manifest = schema.load(Manifest, document, "manifest")
    except (schema.SchemaError, RecursionError) as error:
        raise ManifestError(f"{where}: {error}") from None
    # The digest is that of the file's own bytes with the digest field blank, so that it covers keys, order and spaces, too.
    digests = _DIGEST.findall(data)
    blank = _DIGEST.sub(b'"digest": ""', data)
    if len(digests) != 1 or digests[0].decode() != hashlib.sha256(blank).hexdigest():
        raise IntegrityError(
            f"{where}: changed since the bundle was written (its digest does not fit); export it again"
        )
    _check(manifest, where)
    if (fault := bounds.text_fault(document)) is not None:
        raise ManifestError(f"{where}: {fault}")
    return manifest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, each name in it once: a reader that takes the first of two would read another bundle."""
    read = dict(pairs)
    if len(read) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{twice[:60]!r} stands twice in one object")
    return read


def _check_features(document: dict[str, Any], where: str) -> None:
    """Refuse unknown features before anything else is read, because a feature may bring keys of its own."""
    required = document.get("requires")
    if document["format"] == 1 or not isinstance(required, list):
        return
    if unknown := [feature for feature in required if isinstance(feature, str) and feature not in FEATURES]:
        raise FormatVersionError(
            f"{where}: the bundle requires {unknown[0]!r}, which this version of xai-deploy does not know; "
            "update xai-deploy"
        )


def _check_names(manifest: Manifest, where: str) -> None:
    """Check the names of the files."""
    by_letters = {MANIFEST: MANIFEST}
    for name in manifest.files:
        if not _PLAIN_NAME.fullmatch(name) or name == MANIFEST:
            raise UnsafePathError(f"{where}: {name!r} is not a plain file name inside the bundle")
        if (other := by_letters.setdefault(name.casefold(), name)) != name:
            raise UnsafePathError(
                f"{where}: {other!r} and {name!r} differ in case alone; some systems take them for one file"
            )


def _check(manifest: Manifest, where: str) -> None:
    """Check the rules that types can't express."""
    if (fault := bounds.list_fault(manifest)) is not None:
        raise ManifestError(f"{where}: {fault}")
    _check_names(manifest, where)
    named = {f"graph {role!r}": graph.file for role, graph in manifest.graphs.items()}
    if manifest.labels is not None:
        named["labels"] = manifest.labels
    for what, file in named.items():
        if file not in manifest.files:
            if not _PLAIN_NAME.fullmatch(file):
                raise UnsafePathError(f"{where}: {file!r} is not a plain file name inside the bundle")
            raise ManifestError(f"{where}: {what} names {file!r}, but no hash of it is recorded")
    stored = sum(record.size for record in manifest.files.values())
    for role, graph in manifest.graphs.items():
        if graph.whole is not None and PARTS not in manifest.requires:
            raise ManifestError(f"{where}: the graph {role!r} is in parts, but the bundle does not require {PARTS!r}")
        if graph.whole is not None and not 0 < graph.whole.size <= stored:
            raise ManifestError(
                f"{where}: the graph {role!r} has {graph.whole.size} bytes, which are not in the {stored} bytes of all files"
            )
    levels = range(len(manifest.layers))
    for role in (*manifest.parts, *(role_at("tail", level) for level in levels[1:])):
        if role not in manifest.graphs:
            raise ManifestError(f"{where}: the graph {role!r} is missing")
    if not manifest.is_cut and (manifest.side or manifest.target.asked or manifest.levels):
        raise ManifestError(f"{where}: the network is not cut, but the manifest describes a layer")
    if (fault := manifest.further.fault(manifest.input.name)) is not None:
        raise ManifestError(f"{where}: further: {fault}")
    others = {image.name for image in manifest.further.images}
    if manifest.target.input is not None or any(level.layer.input not in (None, *others) for level in manifest.levels):
        raise ManifestError(
            f"{where}: a layer's input is no further image; the first layer is that of {manifest.input.name!r}"
        )
    for role, graph in manifest.graphs.items():
        if graph.input is not None and (graph.input not in others or graph.start != "image" or not graph.propagated):
            raise ManifestError(f"{where}: the graph {role!r} goes back to {graph.input!r}, which is no further image")
    image, preprocess = manifest.input, manifest.input.preprocess
    for layer in manifest.layers:
        if len(image.layout) != len(image.size) + 2 or len(layer.shape) != len(image.size) + 1:
            raise ManifestError(
                f"{where}: the input is {image.layout}, which does not fit its depth or the layer's shape"
            )
        if min(*image.image_shape, *layer.shape, manifest.classes, *manifest.scores.shape) < 1:
            raise ManifestError(f"{where}: sizes must be positive")
    faults = (bounds.number_fault(manifest.at(level)) for level in levels)
    if (fault := next((fault for fault in faults if fault), None)) is not None:
        raise ManifestError(f"{where}: {fault}")
    if manifest.logits_step < 0:
        raise ManifestError(f"{where}: logits_step can't be negative")
    if manifest.randomised is not None and (fault := manifest.randomised.fault()) is not None:
        raise ManifestError(f"{where}: randomised: {fault}")
    if (fault := preprocess.fault(image.channels)) is not None:
        raise ManifestError(f"{where}: {fault}")
    if not preprocess.holds(image.height, image.width):
        raise ManifestError(f"{where}: images are resized to {written(preprocess.resize)}, smaller than the crop")
    _check_ports(manifest, where)


def _check_ports(manifest: Manifest, where: str) -> None:
    """Check that every graph states what it takes and gives, in agreement with the rest of the manifest."""
    for role, graph in manifest.graphs.items():
        if not (graph.takes and graph.gives) and manifest.format > 1:  # fused graphs of format 1 have no ports
            raise ManifestError(f"{where}: the graph {role!r} does not say what it takes and gives")
        for what, ports in (("takes", graph.takes), ("gives", graph.gives)):
            if len({port.name for port in ports}) < len(ports):
                raise ManifestError(f"{where}: the graph {role!r} {what} two tensors with the same name")
        first = manifest.input.name if graph.start == "image" else at_level(ACTIVATION, _level_of(role, manifest))
        if graph.takes and all(port.name != first for port in graph.takes):
            raise ManifestError(f"{where}: the graph {role!r} takes no {first!r}")
    for role, takes, gives in _parts(manifest):
        graph = manifest.graphs[role]
        for what, ports, expected in (("takes", graph.takes, takes), ("gives", graph.gives, gives)):
            if expected is not None and set(ports) != set(expected):
                raise ManifestError(
                    f"{where}: the tensors that the {role} {what} differ from those that the manifest states for the network"
                )
    scores = manifest.scores
    rank = {"dense": 1 + len(manifest.input.size), "rows": 2}.get(scores.kind, 1)
    if (scores.kind == "rows") != (scores.rows is not None):
        raise ManifestError(f"{where}: explained: {scores.kind} with{'' if scores.rows else 'out'} rows")
    if scores.tensor != LOGITS or len(scores.shape) != rank or scores.shape[0] != manifest.classes:
        raise ManifestError(
            f"{where}: explained: {scores.kind} {scores.tensor!r} of shape {list(scores.shape)} for {manifest.classes} classes"
        )
    if scores.rows is not None and (fault := scores.rows.fault(*scores.shape)) is not None:
        raise ManifestError(f"{where}: explained: rows: {fault}")
    for level in range(len(manifest.layers)):
        seen = manifest.at(level)
        role = role_at(seen.scoring, level)
        logits = next((port.shape for port in manifest.graphs[role].gives if port.name == LOGITS), None)
        if logits != manifest.seed_shape:
            places = f" at {' x '.join(map(str, scores.shape[1:]))} positions" if rank > 1 else ""
            raise ManifestError(f"{where}: the {role} gives no {LOGITS!r} of {manifest.classes} classes{places}")
        if (fault := bounds.port_fault(seen, level)) is not None:
            raise ManifestError(f"{where}: {fault}")


def _level_of(role: str, manifest: Manifest) -> int:
    """The layer at which a graph starts: a graph that all layers share starts at the first one."""
    levels = range(len(manifest.layers))
    return next((level for level in levels if any(role == role_at(own, level) for own in OWN_ROLES)), 0)


def _parts(manifest: Manifest) -> Iterator[tuple[str, tuple[Port, ...], tuple[Port, ...] | None]]:
    """Yield (role, what it has to take, what it has to give or None) for each graph that the network is made of."""
    if not manifest.is_cut:
        yield manifest.scoring, (*manifest.inputs, *regions(manifest)), None
        return
    yield "head", manifest.inputs, between(manifest)
    for level in range(len(manifest.layers)):
        yield role_at("tail", level), (*activations(manifest, level), *regions(manifest)), None
