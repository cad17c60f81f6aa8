"""Whether a tensor is a feature map: its positions are the image's, in order, on the axes that a layout gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from xai_deploy.format.bounds import SIDE

from ..errors import ExtentError, LayerError
from ..graph.layouts import Grid, channel_layouts
from ..graph.positions.strand import NONE, Coordinates, Strand, contracted, covered, full, varying
from ..passes.clean import CleanGraph

_FORMS = "a layer to explain gives [N,K,h,w], [N,h,w,K], or tokens of an image's patches [N,T,K]"
_OF_VOLUMES = (
    "a layer to explain gives [N,K,d,h,w], [N,d,h,w,K], or tokens of patches [N,T,K], with the slices of the volume"
)
_NAMES = {2: ("rows", "columns"), 3: ("slices", "rows", "columns")}


def find_grid(clean: CleanGraph, value: ir.Value, name: str) -> Grid:
    """How a tensor holds an activation.

    Args:
        clean: The graph.
        value: A tensor of it.
        name: The user's name for it, for messages.

    Raises:
        LayerError: It is no feature map; the message says why.
    """
    shape, rank = clean.shapes.per_image(value.name), len(clean.image_shape)
    forms = _FORMS if rank == 3 else _OF_VOLUMES
    whole = clean.shapes.two.get(str(value.name), ())
    if shape is None and len(whole) > 1:
        raise LayerError(
            f"{name!r} is no feature map: its first axis is not the batch alone but counts windows, heads or positions too (shape "
            f"{list(whole)} for {_images(clean)}); {forms}"
        )
    if shape is None or len(shape) not in (2, rank):
        raise LayerError(f"{name!r} has shape {['N', *whole[1:]]}: {forms}; --list-layers shows those that do")
    traced = clean.traced(value)
    strands = () if traced is None else traced.strands
    if len(strands) == 1:
        grid = _tokens(strands[0], shape) if len(shape) == 2 else _map(strands[0], shape)
        if grid is not None and max(grid.shape) > SIDE:
            raise LayerError(f"{name!r} is a map of {list(grid.shape)}; a bundle's have at most {SIDE} on a side")
        if grid is not None:
            check_covers(strands[0], grid, name)
            return grid
    why = _why(strands, len(shape) + 1) if strands else traced.why if traced is not None else ""
    raise LayerError(
        f"{name!r}, shape {['N', *shape]}, is no feature map: {why or 'it does not depend on the image'}; {forms}; "
        "--list-layers shows those that do"
    )


def is_feature_map(clean: CleanGraph, value: ir.Value) -> Grid | None:
    """`find_grid`, but None if the tensor is no feature map."""
    traced = clean.positions.get(value)
    if traced is None or len(traced.strands) != 1:
        return None
    try:
        return find_grid(clean, value, str(value.name))
    except LayerError:
        return None


def check_covers(strand: Strand, grid: Grid, name: str) -> None:
    """Refuse the map of a crop, or of the image with a wide border: it would be stretched over the image.

    The part left out at a side has to be less than one cell of the grid: strides that do not divide the size leave out that much,
    and so do slices that remove a border. A border may be one cell wide: padded convolutions of size 1 add that much.

    Raises:
        LayerError: More is left out, or added.
    """
    what_lies_there = _NAMES[len(strand.places)]
    for what, cells, frame, count in zip(what_lies_there, strand.places, strand.frames, grid.shape[1:], strict=True):
        low, high = covered(cells, frame)
        cell = (high - low) / count * (1 - 1e-6)  # a whole cell must not pass because of rounding
        if max(low, frame.size - high) >= cell:
            raise ExtentError(
                f"{name!r} covers only the {what} {max(low, 0):.0f} to {min(high, frame.size):.0f} of the image's {frame.size}: "
                "the network crops its input, and a map of the crop would lie in the wrong place; export it without its crop, "
                "and crop when images are preprocessed"
            )
        if max(-low, high - frame.size) > cell * 1.01:
            raise ExtentError(
                f"{name!r} covers a border around the image, the {what} {low:.0f} to {high:.0f} of {frame.size}, and a map of it "
                "would lie in the wrong place; split before the border is added, or after it is cut off"
            )


def _images(clean: CleanGraph) -> str:
    return "one image" if clean.shapes.one else "two images"


def _map(strand: Strand, shape: Sequence[int]) -> Grid | None:
    """The grid of [K,h,w] or [h,w,K], with the slices of a volume [K,d,h,w] or [d,h,w,K]; None if it is neither."""
    rank = len(shape)
    first, last = channel_layouts(rank + 1)
    if _in_order(strand, range(1, rank + 1), shape):
        return Grid(first, tuple(shape))
    if _in_order(strand, (rank, *range(1, rank)), shape):
        return Grid(last, (shape[-1], *shape[:-1]))
    return None


def _in_order(strand: Strand, axes: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether the coordinates rise along the axes after the first of `axes`, in the same way in every channel."""
    channels, *places = axes
    merged = contracted(strand, [channels], True)
    # axes count the batch, `shape` does not
    return all(_rises(a, axis, shape[axis - 1]) for a, axis in zip(merged.places, places, strict=True))


def _rises(a: Coordinates, axis: int, size: int) -> bool:
    if size == 1:
        return not varying(a)
    line = a.reshape(-1)
    rising = bool((np.diff(line) >= 0).all()) and line[0] != NONE and line[0] < line[-1]
    return varying(a) == {axis} and rising


def _tokens(strand: Strand, shape: Sequence[int]) -> Grid | None:
    """The grid that tokens beside each other form, in any order, with others before and after them; None if they form none."""
    tokens, channels = shape
    merged = contracted(strand, [2], True)
    if not merged.axes <= {1}:
        return None
    places = np.stack([full(a, 1, tokens).reshape(-1) for a in merged.places])  # y and x; z, y and x in a volume
    known = np.flatnonzero((places != NONE).all(axis=0))  # class and register tokens have no position
    if len(known) < 2:
        return None
    first, last = int(known[0]), int(known[-1]) + 1
    places = places[:, first:last]
    steps = [np.unique(axis) for axis in places]
    sizes = tuple(map(len, steps))
    order = np.lexsort(places[::-1])  # by z, then by y, then by x
    # as many tokens as the grid has cells, without a gap; each cell has the coordinates of its slice, row and column
    if not len(known) == math.prod(sizes) == last - first:
        return None
    cells = np.stack([axis.reshape(-1) for axis in np.meshgrid(*steps, indexing="ij")])
    if (places[:, order] != cells).any():
        return None
    in_order = (np.diff(order) == 1).all()
    return Grid("NTC", (channels, *sizes), first, None if in_order else tuple(map(int, order)), tokens - last)


def _why(strands: Sequence[Strand], rank: int) -> str:
    """Why positions are no grid."""
    if len(strands) > 1:
        return "it holds a number for each pair of positions (an attention matrix), not for each position"
    *deep, y, x = strands[0].places
    if deep:
        return "its positions are not the volume's slices, rows and columns, in order and each on an axis of its own"
    if not varying(y) or not varying(x):
        return "its elements lie along one side of the image, or nowhere"
    if varying(y) == varying(x):
        [axis, *others] = sorted(varying(y))
        if not others and (axis, rank) != (1, 3):
            return f"its tokens lie along axis {axis} of {rank}"
        if not others:
            return "its tokens form no grid of rows and columns of the image"
    if len(varying(y)) == len(varying(x)) == 1:
        return "its rows and columns are in another order, or on other axes, than the image's"
    return "its positions are spread over windows"
