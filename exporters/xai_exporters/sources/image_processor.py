"""Preprocessing from transformers' preprocessor_config.json, by measuring what its image processor does.

The processors of transformers spell the same steps in many ways, and some take steps of their own. So the file is not interpreted:
the processor runs on a black, a white and three noisy images, and the manifest's preprocessing has to give the same numbers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.format.bundle import Input, Preprocess
from xai_deploy.format.image_input import Resize
from xai_deploy.preprocess import prepare
from xai_deploy.resample import resize

from .stated import Stated

NAME = "preprocessor_config.json"
_LARGEST = 4096
"""Pixels of a side, above which no processor is run."""
_LONGEST = 1_000_000  # bytes of the file
_ROOM = 2 << 30
"""Bytes of addresses that a processor may take beside those of the process: one that cuts an image into tiles or patches takes the
product of several numbers in the file."""
_SHAPES = ((301, 403), (420, 283), (187, 691))
"""(height, width) of the noisy images: landscape, portrait, and one so long that a bound on the longer side shows."""
_STEPS, _MEAN = 3.0, 0.5
"""Largest and mean difference of a resized pixel, in steps of 8 bits: the library's resize and ours round differently."""
_EVEN = 1e-4
"""Of the range; some resize floats, and the weights of a filter sum to 1 up to rounding."""
_INTERPOLATIONS = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # PIL's numbers


def stated_by_processor(folder: Path, transformers: Any) -> Stated | str | None:
    """The preprocessing that a folder states.

    Args:
        folder: A folder of transformers'.
        transformers: The package.

    Returns:
        The preprocessing; None if the folder states none; or a line for people why it can't be used.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    unusable = f"{path} is not used ({{}}); give --preprocess, or --resize, --scale, --mean and --std."
    try:
        if path.stat().st_size > _LONGEST or _largest(json.loads(path.read_text(encoding="utf-8"))) > _LARGEST:
            return unusable.format("it states an absurd size")
        processor = transformers.AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        with _bounded():
            results = [_processed(processor, image) for image in _images()]
        sizes = {result.shape for result in results}
        if len(sizes) != 1:
            return unusable.format("it gives images of different sizes")
        stated = _expressed(processor, results, path)
        return stated or unusable.format("its steps are not those of a resize and a centre crop")
    except Exception as error:  # a stranger's file, and each processor raises what it likes
        return unusable.format(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}")


@contextmanager
def _bounded() -> Iterator[None]:
    """Let the process take `_ROOM` more bytes of addresses; more is a MemoryError. Only Linux says how many it has."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    known = [limit for limit in (taken + _ROOM, *before) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(known), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _largest(content: Any) -> float:
    pending, largest = [content], 0.0
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, (int, float)):
            largest = max(largest, abs(value))
    return largest


def _images() -> Iterator[NDArray[np.uint8]]:
    """A black and a white image, three of smooth noise: [h,w,3]."""
    yield np.zeros((*_SHAPES[0], 3), np.uint8)
    yield np.full((*_SHAPES[0], 3), 255, np.uint8)
    draw = np.random.default_rng(0)
    for height, width in _SHAPES:
        coarse = draw.integers(0, 256, (3, height // 8, width // 8)).astype(np.float32)
        # without sharp edges, where libraries clip the overshoot of a bicubic resize between its two passes
        yield np.moveaxis(resize(coarse, height, width, antialias=True), 0, -1).round().astype(np.uint8)


def _processed(processor: Any, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[3,H,W]."""
    result = np.asarray(processor(image, return_tensors="np")["pixel_values"], np.float64)
    if result.ndim != 4 or result.shape[:2] != (1, 3):
        raise ValueError(f"it gives an array of shape {list(result.shape)}")
    prepared: NDArray[np.float64] = result[0]
    return prepared


def _expressed(processor: Any, results: list[NDArray[np.float64]], path: Path) -> Stated | None:
    """The manifest's preprocessing that gives the same numbers as the processor did for `_images`; None if there is none."""
    probes = list(_images())[2:]
    black, white, *noise = results
    _, height, width = black.shape
    low, high = black.mean(axis=(1, 2)), white.mean(axis=(1, 2))
    uneven = max(np.ptp(black, axis=(1, 2)).max(), np.ptp(white, axis=(1, 2)).max())
    if (high <= low).any() or uneven > _EVEN * (high - low).min():
        return None  # padded, or no linear normalisation
    std = 1 / (high - low)
    interpolation = _INTERPOLATIONS.get(int(getattr(processor, "resample", 2) or 0))
    if interpolation is None:
        return None
    # (x / 255 - mean) / std is `low` at 0 and `high` at 255; float32 gives these numbers to six digits
    fields: dict[str, Any] = {
        "interpolation": interpolation,
        "antialias": True,
        "scale": 1 / 255,
        "mean": tuple(float(f"{v:.6g}") + 0.0 for v in -low * std),  # no -0
        "std": tuple(float(f"{v:.6g}") for v in std),
    }
    for color in ("RGB", "BGR"):
        for side in _resizes(processor, height, width):
            how = {**fields, "resize": side, "color": color}
            spec = Input("image", "NCHW", 3, height, width, "float32", Preprocess(**how))
            if all(_same(prepare(image, spec), want, std) for image, want in zip(probes, noise, strict=True)):
                if color == "BGR":  # `Stated` is for RGB
                    how |= {key: how[key][::-1] for key in ("mean", "std")}
                return Stated((height, width), how, str(path), sure=True)
    return None


def _same(ours: NDArray[Any], want: NDArray[np.float64], std: NDArray[np.float64]) -> bool:
    """Whether two prepared images are the same, up to rounding: of pixels, and of a crop's corner that lies between two pixels.

    transformers takes the pixel before such a corner, torchvision and the manifest the even one.
    """
    _, height, width = ours.shape
    for down, across in itertools.product((0, 1), repeat=2):
        apart = ours[:, : height - down, : width - across] - want[:, down:, across:]
        steps = np.abs(apart) * std[:, None, None] * 255
        if steps.max() <= _STEPS and steps.mean() <= _MEAN:
            return True
    return False


def _resizes(processor: Any, height: int, width: int) -> Iterator[Resize]:
    """Resizes that the processor may take: to the input's size, of the shorter side, or of both sides before a crop (DeiT's)."""
    yield "stretch"
    size: Any = getattr(processor, "size", None)
    sides = [getattr(size, key, None) for key in ("shortest_edge", "height", "width")]
    if isinstance(size, Mapping):
        sides += [size.get(key) for key in ("shortest_edge", "height", "width")]
    share = getattr(processor, "crop_pct", None) or 0.875
    high, wide = ([int(side) for side in pair if side] for pair in (sides[1::3], sides[2::3]))
    yield from dict.fromkeys((h, w) for h, w in zip(high, wide, strict=False) if h >= height and w >= width)
    known = {int(side) for side in sides if side}
    # ConvNeXt's and PoolFormer's divide by `crop_pct`, LeViT's multiplies by 256 / 224
    guesses = {min(height, width), *known, *(int(s / share) for s in known), *(int(256 / 224 * s) for s in known)}
    yield from sorted(side for side in guesses if side >= max(height, width))
