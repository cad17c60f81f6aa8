"""The place of a grid's cells in the image, along one side; it shows what a crop leaves out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """Cell c covers the pixels from `origin + scale c` to `origin + scale (c + 1)` of a side of `size` pixels.

    Attributes:
        origin: Pixel at which cell 0 begins; negative if a border was added.
        scale: Pixels per cell.
        size: The image's side.
    """

    origin: float
    scale: float
    size: int

    def edges(self, first: int, last: int) -> tuple[float, float]:
        """The pixels at which the cells `first` to `last` begin and end."""
        return self.origin + self.scale * first, self.origin + self.scale * (last + 1)

    def counted(self, first: int, width: int = 1) -> Frame:
        """The frame of new cells, each of `width` old cells; the new cell 0 begins at the old cell `first`."""
        return Frame(self.origin + self.scale * first, self.scale * width, self.size)

    def spread(self, low: float, high: float, count: int) -> Frame:
        """The frame of `count` equal cells between two pixels."""
        return Frame(low, (high - low) / count, self.size)

    def windowed(self, first: int, last: int, count: int, window: Window | None) -> Frame:
        """The frame of the `count` results of a window that moves over the old cells `first` to `last`.

        A window of size k at stride s, with p cells added before the first, has its first centre k/2 - p cells after the first
        edge. Pixels that windows without a border lose at the image's edges are no crop: the map is stretched over the whole image
        nevertheless. A transposed convolution goes the other way: old cell i is the centre of the results s i - p to
        s i - p + k - 1. Without a window (a resize) the old stretch is divided into `count` equal cells.
        """
        low, high = self.edges(first, last)
        if window is None:
            return self.spread(low, high, count)
        if window.transposed:
            fine = self.scale / window.stride
            # from the centre of old cell 0, the centre of the results -p to k - 1 - p, back to the edge of result 0
            start = low + self.scale / 2 - fine * (window.size / 2 - window.before)
            return self.spread(start, start + fine * count, count)
        wide = self.scale * window.stride
        centre = low + self.scale * (window.size / 2 - window.before)
        start = centre - wide / 2
        # at least the part of the old stretch that lies in the image, so a map without padding is stretched over it
        return self.spread(min(start, max(low, 0.0)), max(start + wide * count, min(high, float(self.size))), count)


@dataclass(frozen=True)
class Window:
    """A window along one axis.

    Attributes:
        size: Cells from its first to its last one, dilation included.
        stride: Cells from one window to the next.
        before: Cells that are added before the first one; for a transposed convolution, results that are cut off there.
        transposed: Whether it belongs to a transposed convolution.
    """

    size: int
    stride: int
    before: int
    transposed: bool = False
