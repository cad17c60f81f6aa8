"""Records made for the purpose: maps with a bump whose place depends on the class, and ways to disturb them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.monitor import Observed, read_records
from xai_deploy.records import Deployed, Recorder

from ..records.damage import deployed

SIZE = (32, 48)
CLASSES = tuple(f"c{i}" for i in range(12))
NET = deployed(CLASSES, SIZE)

Maps = NDArray[Any]


def bump(rng: np.random.Generator, index: int, width: float) -> Maps:
    """A map [8,12] with its largest value somewhere near the place of its class."""
    y, x = (2 + index % 4 + rng.normal(0, 0.7), 2 + index * 3 % 9 + rng.normal(0, 0.7))
    rows, columns = np.indices((8, 12))
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)) + 0.05 * rng.random((8, 12))


def write(
    folder: Path,
    count: int,
    seed: int,
    *,
    net: Deployed = NET,
    width: float = 1.5,
    certain: float = 3.0,
    classes: int = 12,
    corner: float = 0.0,
    constant: float = 0.0,
    turned: bool = False,
    fields: dict[str, str] | None = None,
) -> Path:
    """Write records of undisturbed explanations, or of disturbed ones.

    Args:
        folder: Where to.
        count: How many.
        seed: Of what is drawn.
        net: The network.
        width: Of the bump.
        certain: The logit of the predicted class.
        classes: Only the first so many are predicted.
        corner: How hot the last corner is in every map.
        constant: The share of maps that are the same everywhere.
        turned: Maps upside down.
        fields: Further fields of each record.
    """
    rng = np.random.default_rng(seed)
    with Recorder(folder) as recorder:
        for _ in range(count):
            index = int(rng.integers(classes))
            logits = rng.normal(0, 0.5, len(CLASSES))
            logits[index] = certain + rng.normal(0, 0.3)
            own = bump(rng, index, width)
            own[6:, 9:] += corner
            own = np.ones((8, 12)) if rng.random() < constant else own[::-1] if turned else own
            recorder.record(net, own, logits, "grad-cam", fields=fields)
    return folder


def observed(folder: Path, *arguments: Any, **settings: Any) -> Observed:
    """The same, read back."""
    [own] = read_records(write(folder, *arguments, **settings))[0].values()
    return own
