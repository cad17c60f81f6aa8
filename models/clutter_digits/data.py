"""Pictures of one handwritten digit lying somewhere in clutter, with the digit's true box.

Every picture is drawn from a generator seeded with (seed, split, index) alone, so picture 17 of the test split is the
same whether it is drawn first, last, or in another process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Split = Literal["train", "val", "test"]
Box = tuple[int, int, int, int]
Image = NDArray[np.uint8]
Mask = NDArray[np.float32]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZE = 64  # side of a picture in pixels
SPLIT_SEED = 0  # fixed, apart from the seed of the pictures: a source digit never changes its split

_SOURCE = 8  # side of a digit in scikit-learn's copy
_PAD = 1  # blank source pixels around a digit, so that its strokes end smoothly
_ZOOM = 8  # a master is this many times finer than its source
_CLEARANCE = 2  # pixels that stay free of strokes around the digit's own strokes
_PEN = (0.38, 0.54)  # where ink begins: a lower threshold makes a bolder pen
_SUB_BITS = 4  # OpenCV draws at 1/16 of a pixel
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Colour = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """One picture.

    Attributes:
        image: RGB, uint8, shape (64, 64, 3), range 0 to 255.
        label: The digit, 0 to 9.
        box: Tight box of the digit in pixels, (x0, y0, x1, y1), half open: x0 <= x < x1.
    """

    image: Image
    label: int
    box: Box


@dataclass(frozen=True)
class SourceDigits:
    """The handwritten digits of one split.

    Attributes:
        indices: Places in scikit-learn's `load_digits`, shape (N,).
        labels: Classes 0 to 9, shape (N,).
        masters: Ink, enlarged smoothly, shape (N, 80, 80), range 0 to 1.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    masters: Mask


@cache
def source_digits(split: Split) -> SourceDigits:
    """Returns the source digits of a split: 65 % train, 10 % val, 25 % test, each class in the same shares."""
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    train, rest = train_test_split(np.arange(len(labels)), test_size=0.35, random_state=SPLIT_SEED, stratify=labels)
    val, test = train_test_split(rest, test_size=5 / 7, random_state=SPLIT_SEED, stratify=labels[rest])
    indices = np.sort({"train": train, "val": val, "test": test}[split])
    masters = np.stack([_enlarge(digits.images[i]) for i in indices])
    return SourceDigits(indices=indices, labels=labels[indices], masters=masters)


def draw(split: Split, index: int, seed: int = 0) -> Sample:
    """Draws one picture.

    Args:
        split: Which source digits to use, for the digit and for the scraps in the clutter.
        index: Number of the picture, from 0, without an end.
        seed: Another seed gives other pictures.

    Returns:
        The picture; the same arguments give the same picture.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    source = source_digits(split)
    # Classes come first, so that they are equally frequent whatever the source holds.
    label = int(rng.integers(10))
    ink = _place_digit(source.masters[rng.choice(np.flatnonzero(source.labels == label))], rng)

    canvas, (dark, light) = _background(rng)
    colour = _contrasting(rng, dark, light, gap=85.0)
    keep_free = np.asarray(cv2.dilate(ink, np.ones((2 * _CLEARANCE + 1,) * 2)) > 0.1)
    for _ in range(int(rng.integers(4, 10))):
        shape = _distractor(rng, keep_free, source)
        if shape is not None:
            # Neither colour nor contrast may give the digit away, so some distractors share its colour.
            own = colour if rng.random() < 0.4 else _contrasting(rng, dark, light, gap=rng.uniform(60.0, 85.0))
            canvas = _paint(canvas, shape, own)
    canvas = _paint(canvas, ink, colour)
    canvas += rng.normal(0.0, rng.uniform(0.0, 5.0), canvas.shape).astype(np.float32)
    return Sample(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), label, _tight_box(ink))


def samples(split: Split, count: int, seed: int = 0, start: int = 0) -> Iterator[Sample]:
    """Draws pictures `start` to `start + count - 1` of a split, one by one."""
    for index in range(start, start + count):
        yield draw(split, index, seed)


# ---------------------------------------------------------------------------------------------------------- the digit


def _enlarge(digit: NDArray[np.float64]) -> Mask:
    """Turns a digit of shape (8, 8), range 0 to 16, into a smooth master of shape (80, 80), range 0 to 1."""
    padded = np.pad(digit.astype(np.float32) / 16.0, _PAD)
    side = padded.shape[0] * _ZOOM
    large = cv2.resize(padded, (side, side), interpolation=cv2.INTER_CUBIC)
    # Without the blur the 8 x 8 grid still shows as beads along the strokes; without the sharpening after it the
    # small holes of fours, eights and nines fill up.
    smooth = cv2.GaussianBlur(large, (0, 0), 0.3 * _ZOOM)
    sharp = smooth + 1.5 * (smooth - cv2.GaussianBlur(smooth, (0, 0), 1.0 * _ZOOM))
    return np.clip(sharp, 0.0, 1.0).astype(np.float32)


def _place_digit(master: Mask, rng: np.random.Generator) -> Mask:
    """Scales, turns and slants a master and puts it anywhere on the picture.

    Args:
        master: Ink, shape (80, 80), range 0 to 1.
        rng: Where the randomness comes from.

    Returns:
        The digit's opacity, shape (64, 64), range 0 to 1.
    """
    # Digits fill the eight source rows, so the height in pixels is about eight times the scale.
    scale = rng.uniform(18.5, 25.5) / (_SOURCE * _ZOOM)
    turn = math.radians(rng.uniform(-12.0, 12.0))
    widen = rng.uniform(0.92, 1.18)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = scale * rotation @ np.array([[1.0, rng.uniform(-0.15, 0.15)], [0.0, 1.0]]) @ np.diag([widen, 1.0])
    pen = rng.uniform(*_PEN)

    # A first draft in the middle of the picture tells how far the digit may move.
    centre = matrix @ np.full(2, master.shape[0] / 2)
    draft = _stroke(master, matrix, SIZE / 2 - centre, pen)
    x0, y0, x1, y1 = _tight_box(draft)
    move = np.array([rng.integers(1 - x0, SIZE - x1), rng.integers(1 - y0, SIZE - y1)])
    return _stroke(master, matrix, SIZE / 2 - centre + move, pen)


def _stroke(master: Mask, matrix: NDArray[np.float64], shift: NDArray[np.float64], pen: float) -> Mask:
    """Maps a master through an affine transform onto the picture and sharpens its ink into a stroke."""
    warp = np.column_stack([matrix, shift])
    # Masters are about three times finer than the picture: a slight blur keeps thin strokes from breaking up.
    ink = cv2.warpAffine(cv2.GaussianBlur(master, (0, 0), 1.0), warp, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    ramp = np.clip((ink - pen) / 0.3, 0.0, 1.0)  # a ramp instead of a step leaves soft edges
    return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp), dtype=np.float32)


def _tight_box(mask: Mask) -> Box:
    """Returns the box of all pixels that are at least half covered, as (x0, y0, x1, y1), half open."""
    rows, columns = np.nonzero(mask >= 0.5)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


# ------------------------------------------------------------------------------------------------ colour and background


def _with_luma(rng: np.random.Generator, luma: float) -> Colour:
    """Returns a random colour of a given brightness, shape (3,), range 0 to 255."""
    hue = cv2.cvtColor(np.array([[[rng.uniform(0, 360), rng.uniform(0.15, 0.8), 1.0]]], np.float32), cv2.COLOR_HSV2RGB)
    colour = hue.reshape(3) * 255.0
    own = float(colour @ _LUMA)
    if own >= luma:
        return np.asarray(colour * (luma / own), dtype=np.float32)
    return np.asarray(colour + (255.0 - colour) * ((luma - own) / (255.0 - own)), dtype=np.float32)


def _contrasting(rng: np.random.Generator, dark: float, light: float, gap: float) -> Colour:
    """Returns a colour at least `gap` brighter than `light` or darker than `dark`, both in brightness 0 to 255."""
    above, below = 250.0 - (light + gap), (dark - gap) - 8.0
    # A background spans 60 steps at most, so up to a gap of 90 there is room on one side at least.
    room_above, room_below = max(above, 0.0), max(below, 0.0)
    place = rng.uniform(0.0, room_above + room_below)
    return _with_luma(rng, light + gap + place if place < room_above else 8.0 + place - room_above)


def _paint(canvas: NDArray[np.float32], mask: Mask, colour: Colour) -> NDArray[np.float32]:
    """Lays a colour over a canvas of shape (64, 64, 3) where the mask of shape (64, 64) says so."""
    return np.asarray(canvas + mask[..., None] * (colour - canvas), dtype=np.float32)


def _background(rng: np.random.Generator) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Draws a textured background.

    Returns:
        The canvas, float32, shape (64, 64, 3), range 0 to 255, and the darkest and lightest brightness in it.
    """
    # At most 60 of the 255 steps of brightness, so that there is room for a digit beside them.
    low = rng.uniform(10.0, 185.0)
    high = min(low + rng.uniform(12.0, 60.0), 240.0)
    first, second = _with_luma(rng, low), _with_luma(rng, high)
    texture: Callable[[np.random.Generator], Mask] = (_noise, _stripes, _checks, _gradient)[int(rng.integers(4))]
    mix = texture(rng)
    if rng.random() < 0.5:  # a breath of noise makes stripes and checks less clean
        mix = np.clip(mix + rng.uniform(0.1, 0.35) * (_noise(rng) - 0.5), 0.0, 1.0).astype(np.float32)
    canvas = first + mix[..., None] * (second - first)
    return np.asarray(canvas, dtype=np.float32), (low, high)


def _grid() -> tuple[Mask, Mask]:
    """Returns the pixels' x and y, each of shape (64, 64)."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    return x, y


def _noise(rng: np.random.Generator) -> Mask:
    """Smooth noise of several scales, shape (64, 64), range 0 to 1."""
    total = np.zeros((SIZE, SIZE), dtype=np.float32)
    for side in (3, 6, 12, 24):
        coarse = rng.normal(size=(side, side)).astype(np.float32)
        total += cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) * (3.0 / side) ** 0.7
    return np.asarray((total - total.min()) / (total.max() - total.min()), dtype=np.float32)


def _wave(rng: np.random.Generator, angle: float) -> Mask:
    """A wave across the picture with edges between soft and hard, shape (64, 64), range 0 to 1."""
    x, y = _grid()
    period = rng.uniform(7.0, 26.0)
    phase = (x * math.cos(angle) + y * math.sin(angle)) / period + rng.random()
    hardness = rng.uniform(0.8, 6.0)
    return np.asarray(0.5 + 0.5 * np.tanh(hardness * np.sin(2 * math.pi * phase)), dtype=np.float32)


def _stripes(rng: np.random.Generator) -> Mask:
    return _wave(rng, rng.uniform(0.0, math.pi))


def _checks(rng: np.random.Generator) -> Mask:
    angle = rng.uniform(0.0, math.pi / 2)
    one, other = _wave(rng, angle), _wave(rng, angle + math.pi / 2)
    return np.asarray(one * other + (1.0 - one) * (1.0 - other), dtype=np.float32)


def _gradient(rng: np.random.Generator) -> Mask:
    x, y = _grid()
    if rng.random() < 0.5:
        angle = rng.uniform(0.0, 2 * math.pi)
        ramp = x * math.cos(angle) + y * math.sin(angle)
    else:
        ramp = np.hypot(x - rng.uniform(0, SIZE), y - rng.uniform(0, SIZE))
    return np.asarray((ramp - ramp.min()) / (ramp.max() - ramp.min()), dtype=np.float32)


# ------------------------------------------------------------------------------------------------------------- clutter


def _distractor(rng: np.random.Generator, keep_free: NDArray[np.bool_], source: SourceDigits) -> Mask | None:
    """Draws one thing that looks like writing and is no digit.

    Args:
        rng: Where the randomness comes from.
        keep_free: True where nothing may be drawn, shape (64, 64): a stroke that touched the digit could make
            another digit of it.
        source: Digits to cut scraps from.

    Returns:
        Its opacity, shape (64, 64), range 0 to 1; None if no free place was found.
    """
    # Scraps are the hardest: real pen strokes, so they are drawn most often.
    kinds = (_line, _arc, _cross, _blob, _dots)
    kind = int(rng.choice(len(kinds) + 1, p=(0.16, 0.16, 0.1, 0.1, 0.08, 0.4)))
    for _ in range(8):
        mask = _scrap(rng, source) if kind == len(kinds) else kinds[kind](rng)
        if not np.any(keep_free & (mask > 0.05)):
            return mask
    return None


def _anywhere(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(2.0, SIZE - 2.0, size=2)


def _polyline(points: NDArray[np.float64], thickness: int) -> Mask:
    """Draws a line through points (N, 2), given as x and y in pixels, as opacity (64, 64) of range 0 to 1."""
    canvas = np.zeros((SIZE, SIZE), dtype=np.uint8)
    fixed = np.rint(points * (1 << _SUB_BITS)).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, 255, thickness, cv2.LINE_AA, _SUB_BITS)
    return np.asarray(canvas, dtype=np.float32) / 255.0


def _line(rng: np.random.Generator) -> Mask:
    # Clearly shorter or clearly longer than a digit is tall: a bar of a digit's size is a one.
    length = rng.uniform(5.0, 10.0) if rng.random() < 0.5 else rng.uniform(34.0, 80.0)
    angle = rng.uniform(0.0, math.pi)
    half = 0.5 * length * np.array([math.cos(angle), math.sin(angle)])
    middle = _anywhere(rng)
    return _polyline(np.stack([middle - half, middle + half]), int(rng.integers(1, 4)))


def _arc(rng: np.random.Generator) -> Mask:
    # Never more than half a turn: a ring is a zero.
    radius = rng.uniform(4.0, 7.0) if rng.random() < 0.6 else rng.uniform(18.0, 34.0)
    angles = rng.uniform(0.0, 2 * math.pi) + np.linspace(0.0, rng.uniform(0.35, 0.95) * math.pi, 24)
    ring = np.column_stack([np.cos(angles), np.sin(angles) * rng.uniform(0.7, 1.0)])
    return _polyline(_anywhere(rng) + radius * ring, int(rng.integers(1, 4)))


def _cross(rng: np.random.Generator) -> Mask:
    angle, middle, arm = rng.uniform(0.0, math.pi), _anywhere(rng), rng.uniform(3.0, 6.0)
    thickness = int(rng.integers(1, 3))
    bars = []
    for turn in (0.0, math.pi / 2):
        half = arm * np.array([math.cos(angle + turn), math.sin(angle + turn)])
        bars.append(_polyline(np.stack([middle - half, middle + half]), thickness))
    return np.maximum(*bars)


def _blob(rng: np.random.Generator) -> Mask:
    angles = np.linspace(0.0, 2 * math.pi, 40, endpoint=False)
    size = rng.uniform(2.0, 5.5)
    dents = [rng.uniform(0.0, 0.2) * np.cos(waves * angles + rng.random()) for waves in (2, 3)]
    radius = size * (1.0 + np.sum(dents, axis=0))
    points = _anywhere(rng) + radius[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    canvas = np.zeros((SIZE, SIZE), dtype=np.uint8)
    cv2.fillPoly(canvas, [np.rint(points * (1 << _SUB_BITS)).astype(np.int32)], 255, cv2.LINE_AA, _SUB_BITS)
    return np.asarray(canvas, dtype=np.float32) / 255.0


def _dots(rng: np.random.Generator) -> Mask:
    canvas = np.zeros((SIZE, SIZE), dtype=np.uint8)
    start, angle, gap = _anywhere(rng), rng.uniform(0.0, 2 * math.pi), rng.uniform(4.0, 7.0)
    radius = int(rng.uniform(0.8, 1.8) * (1 << _SUB_BITS))
    for step in range(int(rng.integers(2, 6))):
        x, y = (start + step * gap * np.array([math.cos(angle), math.sin(angle)])) * (1 << _SUB_BITS)
        cv2.circle(canvas, (round(x), round(y)), radius, 255, cv2.FILLED, cv2.LINE_AA, _SUB_BITS)
    return np.asarray(canvas, dtype=np.float32) / 255.0


def _scrap(rng: np.random.Generator, source: SourceDigits) -> Mask:
    """Cuts small pieces out of other digits and pastes up to three of them together in the wrong places."""
    side = 4 * _ZOOM  # half of a digit's height: too little to read it
    total = np.zeros((SIZE, SIZE), dtype=np.float32)
    place, pieces = _anywhere(rng), int(rng.integers(1, 4))
    for _ in range(pieces):
        master = source.masters[rng.integers(len(source.masters))]
        top, left = rng.integers(_PAD * _ZOOM, master.shape[0] - _PAD * _ZOOM - side + 1, size=2)
        # Flips and quarter turns keep two pieces from growing back into a digit.
        piece = np.rot90(master[top : top + side, left : left + side], int(rng.integers(4)))
        # A soft rim hides the straight cut.
        rim = np.hanning(side + 2)[1:-1] ** 0.35
        piece = np.pad(piece * np.outer(rim, rim), 4).astype(np.float32)
        scale = rng.uniform(18.5, 25.5) / (_SOURCE * _ZOOM)
        angle = rng.uniform(0.0, 2 * math.pi)
        matrix = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shift = place - matrix @ np.full(2, piece.shape[0] / 2)
        total = np.maximum(total, _stroke(piece, matrix, shift, rng.uniform(*_PEN)))
        direction = rng.uniform(0.0, 2 * math.pi)
        place = place + 0.8 * side * scale * np.array([math.cos(direction), math.sin(direction)])
    return total
