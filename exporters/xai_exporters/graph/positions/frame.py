"""Where a grid's cells lie in the image, along one side: what a crop leaves out shows here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """Cell c covers the pixels from `origin + scale c` to `origin + scale (c + 1)` of a side of `size` pixels.

    Attributes:
        origin: Pixel at which cell 0 begins; negative where a border was added.
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
        """The frame of cells that are counted from 0 at the old cell `first`, `width` old cells to each."""
        return Frame(self.origin + self.scale * first, self.scale * width, self.size)

    def spread(self, low: float, high: float, count: int) -> Frame:
        """The frame of `count` cells between two pixels."""
        return Frame(low, (high - low) / count, self.size)

    def windowed(self, first: int, last: int, count: int, window: Window | None) -> Frame:
        """The frame of the `count` results of a window that moves over the old cells `first` to `last`.

        A window of size k at stride s, with p cells added in front, has its first centre k/2 - p cells behind the first edge.
        What windows without a border lose at the image's edges is no crop: a map is stretched over the image all the same.
        A transposed convolution is the way back: old cell i is the centre of the results s i - p to s i - p + k - 1.
        Without a window (a resize) the old stretch is divided anew.
        """
        low, high = self.edges(first, last)
        if window is None:
            return self.spread(low, high, count)
        if window.transposed:
            fine = self.scale / window.stride
            start = low + self.scale / 2 - fine * (window.size / 2 - window.before)
            return self.spread(start, start + fine * count, count)
        wide = self.scale * window.stride
        centre = low + self.scale * (window.size / 2 - window.before)
        start = centre - wide / 2
        return self.spread(min(start, max(low, 0.0)), max(start + wide * count, min(high, float(self.size))), count)


@dataclass(frozen=True)
class Window:
    """A window along one axis.

    Attributes:
        size: Cells from its first to its last one, dilation counted in.
        stride: Cells from one window to the next.
        before: Cells that are added in front; of a transposed convolution, results that are cut off there.
        transposed: Whether it is one of a transposed convolution.
    """

    size: int
    stride: int
    before: int
    transposed: bool = False
