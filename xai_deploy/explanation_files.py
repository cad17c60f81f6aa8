"""Saved explanations: what an explanation's folder holds, and which of its contents are possible. No pickle.

A folder has `header.json` (format 1: everything that is no array) and `arrays.npz` (uncompressed, so that no array is larger than
the file). What is saved passes the same checks as what is loaded, so that everything saved can be loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from .detections import Detection
from .errors import SavedExplanationError
from .explained_network import ExplainedNetwork
from .format.bundle import TargetLayer
from .foundation import schema
from .foundation.arrays import ARRAYS, HEADER, TooLargeError, read_folder, write_folder
from .foundation.zip_files import UnsoundZipError
from .preprocess import resized

T = TypeVar("T")
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Value: TypeAlias = str | bool | int | float | None

FORMAT = 1
_LIMIT = 8 << 30  # bytes
_SIDE = 65_535  # pixels
_PIXELS = 1 << 28  # of a photo: its map in float32 takes 1 GiB


@dataclass(frozen=True)
class SavedLayer:
    """What is no array of a layer's maps; see `LayerMaps`. Their array is `layer-0`, `layer-1`, ..."""

    layer: TargetLayer
    constant: tuple[str | None, ...]


@dataclass(frozen=True)
class Header:
    """What is no array; see `Explanation`.

    Attributes:
        outputs: The names of the outputs, whose arrays are `output-0`, `output-1`, ...
        thumbnails: Whether each image has one; their arrays are `thumbnail-0`, ..., by image.
        diagnostics: As in `Explanation`; none in folders of earlier versions.
        titles: As in `Explanation`; none in folders of earlier versions.
        layers, detections, rows: As in `Explanation`.
    """

    format: int
    method: str
    options: dict[str, Value | tuple[Value, ...]]
    seconds: float
    constant: tuple[str | None, ...]
    signed: tuple[bool, ...]
    at_pixels: bool
    outputs: tuple[str, ...]
    sizes: tuple[tuple[int, int] | None, ...]
    thumbnails: tuple[bool, ...]
    network: ExplainedNetwork
    titles: tuple[str | None, ...] = ()
    diagnostics: dict[str, tuple[float, ...]] = field(default_factory=dict)
    layers: tuple[SavedLayer, ...] = field(default=(), metadata=schema.LATER)
    detections: tuple[tuple[Detection, ...], ...] = field(default=(), metadata=schema.LATER)
    rows: tuple[tuple[int, ...], ...] = field(default=(), metadata=schema.LATER)


def save(folder: Path, header: Header, arrays: Arrays) -> None:
    """Write a folder, whole or not at all.

    Raises:
        SavedExplanationError: The folder exists or can't be written, or `load` would refuse it.
    """
    try:
        dumped = schema.dump(header)
        again = schema.load(Header, json.loads(json.dumps(dumped, allow_nan=False)), "header")
        fault = _fault(again, arrays)
        if fault is not None or again != header:
            raise SavedExplanationError(f"{folder}: this explanation can't be saved ({fault or 'its options'})")
        write_folder(folder, dumped, arrays)
    except OSError as error:
        raise SavedExplanationError(f"{folder}: {error.strerror or error}") from None
    except (ValueError, TypeError) as error:
        raise SavedExplanationError(f"{folder}: this explanation can't be saved ({error})") from None


def load(folder: Path) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Read a folder, also a stranger's: nothing in it is run, and no array is larger than its file.

    Raises:
        SavedExplanationError: It is missing, damaged, of another format, or holds what can't be.
    """
    try:
        document, arrays = read_folder(folder, _LIMIT)
        number = document["format"]
        if type(number) is not int or number != FORMAT:
            raise SavedExplanationError(f"{folder}: format {number!r}, this version reads {FORMAT}; update xai-deploy")
        header = schema.load(Header, document, "header")
        fault = _fault(header, arrays)
    except FileNotFoundError as error:
        what = Path(str(error.filename)).name if folder.is_dir() else "no such folder"
        missing = f"no {what} in it" if folder.is_dir() else what
        raise SavedExplanationError(f"{folder}: {missing}; Explanation.save writes such folders") from None
    except NotADirectoryError:
        raise SavedExplanationError(f"{folder}: is a file; Explanation.save writes folders") from None
    except TooLargeError:
        raise SavedExplanationError(f"{folder}: holds more than is allowed ({_LIMIT >> 30} GiB of arrays)") from None
    except OSError as error:
        raise SavedExplanationError(f"{folder}: can't be read ({error.strerror or error})") from None
    except SavedExplanationError:
        raise
    except UnsoundZipError as error:
        raise SavedExplanationError(f"{folder / ARRAYS}: is {error}; save it again") from None
    except schema.SchemaError as error:
        raise SavedExplanationError(f"{folder / HEADER}: {error}") from None
    except Exception:  # zipfile, zlib, json and NumPy's headers fail in more ways than they document
        raise SavedExplanationError(f"{folder}: not a saved explanation, or damaged; save it again") from None
    if fault is not None:
        raise SavedExplanationError(f"{folder}: its parts do not fit together ({fault}); save it again")
    return header, arrays


def _fault(header: Header, arrays: Arrays) -> str | None:
    """What is impossible; None if all fits. The sizes checked here bound the memory that pictures and `to_image_size` take."""
    spec, how, count = header.network.input, header.network.input.preprocess, len(header.constant)
    heatmap, logits = arrays.get("heatmap"), arrays.get("logits")
    if heatmap is None or logits is None or logits.ndim != 2 or count < 1:
        return "no heatmap or no logits"
    if (
        heatmap.shape != (count, *spec.size)
        or len(spec.layout) != len(spec.size) + 2
        or not 1 <= min(spec.image_shape) <= max(spec.image_shape) <= _SIDE
    ):
        return "heatmap"
    classes = logits.shape[1]
    checks: dict[str, Callable[[NDArray[Any]], Any]] = {
        "heatmap": lambda a: a.dtype == np.float32 and a.min() >= 0 and a.max() <= 1,  # NaN is neither
        "raw": lambda a: a.dtype == np.float32 and a.ndim == heatmap.ndim and a.size and np.isfinite(a).all(),
        "logits": lambda a: a.dtype == np.float32 and a.size and np.isfinite(a).all(),
        "target": lambda a: a.dtype == np.int64 and a.ndim == 1 and a.min() >= 0 and a.max() < classes,
        "versus": lambda a: a.dtype == np.int64 and a.ndim == 1 and a.min() >= -1 and a.max() < classes,
        "score": lambda a: a.dtype == np.float32 and a.ndim == 1 and np.isfinite(a).all(),
        "shares": lambda a: (
            a.dtype == np.float32 and a.shape[1:] == (classes,) and a.min() >= -1e-3 and a.max() <= 1.001
        ),
        "sign": lambda a: a.dtype == np.int8 and a.ndim == 1 and np.isin(a, (-1, 1)).all(),
        **{f"output-{i}": lambda a: a.ndim >= 1 and a.dtype.kind in "biuf" for i in range(len(header.outputs))},
    }
    small = {f"thumbnail-{i}" for i, there in enumerate(header.thumbnails) if there}
    optional = {"versus", "score", "shares"}
    checks |= {f"layer-{i}": checks["raw"] for i in range(len(header.layers))}
    if set(arrays) - optional != (set(checks) | small) - optional:
        return "its arrays"
    for name, holds in checks.items():
        if name in arrays and (len(arrays[name]) != count or not holds(arrays[name])):
            return name
    for name in small:
        one = arrays[name]
        if (
            one.dtype != np.uint8
            or one.ndim != 3
            or one.shape[2] != 3
            or not 1 <= min(one.shape) <= max(one.shape) <= 1024
        ):
            return name
    lists: list[Sequence[object]] = [header.sizes, header.thumbnails, header.signed, *header.diagnostics.values()]
    lists += [one.constant for one in header.layers]
    if len(header.titles) not in (0, count):
        return "titles"
    if any(len(each) != count for each in lists) or not _fits(header, count, classes):
        return "its lists"
    if (
        len(how.mean) != spec.channels
        or len(how.std) != spec.channels
        or len(set(header.outputs)) < len(header.outputs)
    ):
        return "network"
    if not how.holds(spec.height, spec.width) or max(how.resized_sides or (0,)) > _SIDE:
        return "network.input.preprocess.resize"
    photos = [size for size in header.sizes if size is not None] + [arrays[name].shape[:2] for name in small]
    return None if all(_possible(*size, header.network) for size in photos) else "sizes"


def _fits(header: Header, count: int, classes: int) -> bool:
    """Whether labels and detections fit `count` images and `classes` scores; a detector's rows hold coordinates beside classes."""
    if header.network.kind != "rows":
        return len(header.network.labels) in (0, classes) and not (header.detections or header.rows)
    if any(len(each) != count for each in (header.detections, header.rows)):
        return False
    return all(np.isfinite([one.score, *one.box]).all() for found in header.detections for one in found)


def _possible(height: int, width: int, network: ExplainedNetwork) -> bool:
    """Whether a map can be put onto a photo of this size within bounded memory."""
    if not 1 <= min(height, width) <= max(height, width) <= _SIDE or height * width > _PIXELS:
        return False
    spec = network.input
    (whole_height, whole_width), _ = resized(height, width, spec)
    if height * width * (spec.depth or 1) > _PIXELS:
        return False
    return max(height * spec.height, width * spec.width) <= _PIXELS and max(whole_height, whole_width) <= 1 << 20
