"""What the rows of a detector hold: part of the manifest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..foundation import schema

NMS_INSIDE = "nms-inside"
"""The decoder of detectors that suppress boxes themselves."""

SIDES = ("left", "top", "right", "bottom")

ROWS = "rows"
"""The feature that a detector's bundle requires of its reader."""

CHOICES = "choices"
"""The feature of a bundle whose graphs take the places that a detector's TopK chose."""

OBJECTNESS = "objectness"
"""The feature of a bundle whose rows end with their objectness."""


@dataclass(frozen=True)
class Grid:
    """The cells of one level of a dense head, whose rows come one after the other as [outer,height,width,inner].

    Attributes:
        height, width: How many cells a column and a row of the level have.
        outer, inner: How often the level's cells come, and each of them: the anchors of a cell, in one of the two orders.
    """

    height: int
    width: int
    outer: int = 1
    inner: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(outer, height, width, inner)."""
        return self.outer, self.height, self.width, self.inner

    @property
    def count(self) -> int:
        """How many rows the level has."""
        return self.outer * self.height * self.width * self.inner


@dataclass(frozen=True)
class Rows:
    """How a row of a detector becomes a detection.

    The entries of a row are a score for each class, then four coordinates of its box, then, if `labelled`, the number of its class
    or its objectness.

    Attributes:
        decoder: The layout that the exporter took the network's outputs for.
        classes: How many scores a row has: one for each class, or one if it is `labelled`.
        form: "corners": left, top, right, bottom. "centre": centre x, centre y, width, height.
        unit: Of the coordinates: pixels of the network's input, or fractions of its width and height.
        background: The class that means "no object"; None if there is none.
        labelled: A row has one score, and its last entry is its class.
        suppress: Rows of one class may overlap, so that those beside a better one are left out (non-maximum suppression).
        grids: The levels whose cells the rows are, in the rows' order. None if they are no cells (queries, rows that were chosen),
            or if the bundle is older than this.
        objectness: A row's last entry is its objectness, a probability that its scores hold as a factor, too. D-RISE reads it.
    """

    decoder: str
    classes: int
    form: Literal["corners", "centre"]
    unit: Literal["pixels", "fractions"]
    background: int | None = None
    labelled: bool = False
    suppress: bool = True
    grids: tuple[Grid, ...] = field(default=(), metadata=schema.LATER)
    objectness: bool = field(default=False, metadata=schema.LATER)

    @property
    def chosen_inside(self) -> bool:
        """Whether the network itself suppresses boxes: no gradient passes that, and a row is another box in each run."""
        return self.decoder == NMS_INSIDE

    @property
    def entries(self) -> int:
        """How many numbers a row has."""
        return self.classes + 4 + self.labelled + self.objectness

    def side(self, name: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """A side of the box as a weighted sum of entries: which entries, and their weights.

        Args:
            name: left, top, right, bottom, width or height.
        """
        first, vertical = self.classes, name in ("top", "bottom", "height")
        low, high = first + vertical, first + 2 + vertical  # corners, or the centre and the extent
        if name in ("width", "height"):
            return ((high,), (1.0,)) if self.form == "centre" else ((high, low), (1.0, -1.0))
        if self.form == "corners":
            return ((low if name in ("left", "top") else high,), (1.0,))
        return (low, high), (1.0, -0.5 if name in ("left", "top") else 0.5)

    def fault(self, entries: int, count: int) -> str | None:
        """What contradicts so many entries and rows; None if nothing does."""
        if self.classes < 1 or (self.labelled and self.classes != 1) or self.entries != entries:
            return f"{self.classes} scores and a box do not make {entries} entries"
        if self.labelled and self.objectness:
            return "a row ends with its class or with its objectness, not with both"
        if self.background is not None and not 0 <= self.background < self.classes:
            return f"the background is none of {self.classes} classes"
        if any(min(grid.shape) < 1 for grid in self.grids):
            return "a grid without a cell"
        if self.grids and (self.labelled or sum(grid.count for grid in self.grids) != count):
            return f"the cells of its grids are not its {count} rows"
        return None
