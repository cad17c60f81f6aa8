"""What an export did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xai_deploy.format.bundle import Manifest

from .bundle.verify import Verified


@dataclass(frozen=True)
class Export:
    """What an export did.

    Attributes:
        path, manifest: The bundle's.
        kind: The kind of source.
        verified: How well the bundle reproduces the source.
        dead: Role -> why its graph gave only zeros on noise images (see `xai_deploy.constant_maps`).
        batch_was_fixed: The source has a fixed batch. The bundle's is symbolic, unless its manifest says "one".
        one_because: Why the bundle takes one image at a time; None if it takes several.
        framework: The name of what `verified` compares with besides the source graph.
        reads: The files on which the bundle depends beside its source; see `files_read`.
        layer_note: What users should know about the layer that `auto` chose, or that a name stands for; None if nothing is unusual.
        dropped_outputs: Outputs that are left out because they are not one result per image.
        size: The size of the bundle's files, in bytes.
        seconds: How long it took.
        notes: Lines that say what the network was taken for, where its preprocessing comes from, and which runtime can't run what.
        beside: The page and the server's repository.
        randomised: The exports of the bundles with random weights, whose source is the randomised network.
    """

    path: Path
    manifest: Manifest
    kind: str
    verified: Verified
    dead: Mapping[str, str]
    batch_was_fixed: bool
    dropped_outputs: tuple[str, ...]
    size: int
    seconds: float
    notes: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()
    randomised: tuple[Export, ...] = ()
    one_because: str | None = None
    framework: str = "torch"
    layer_note: str | None = None
    reads: tuple[Path, ...] = ()
