"""A recording of a network's outputs for some images: a reference for a device on which the network itself can't run.

It is one NumPy `.npz` file: `header` (JSON), `logits`, `probabilities`, and a float32 array of heatmaps per method. For a network
that gives no classes it also holds what was explained (`seed-classes`, `seed-weights`, `seed-sign`, and for dense scores `where`),
and for dense scores the class `predicted` at each position. For a detector it holds its `boxes`, and which is `chosen`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..caveats import Gives
from ..errors import RecordingError
from ..foundation import schema
from ..foundation.arrays import TooLargeError, array_digest, read_npz
from ..foundation.whole_files import whole_file
from ..foundation.zip_files import UnsoundZipError
from ..targets import Seed, Settled
from .boxes import Chosen
from .compare import Explained

FORMAT = 1
_LIMIT = 8 << 30  # bytes, decompressed


@dataclass(frozen=True)
class RecordedMethod:
    """A method as the user asked for it.

    Attributes:
        name: Its name.
        options: Option -> value, both as text.
    """

    name: str
    options: dict[str, str]


@dataclass(frozen=True)
class RecordingHeader:
    """The header of a recording.

    Attributes:
        format: 1.
        network: The bundle's name.
        digest: Its manifest's digest.
        runtime: Backend, device and precision, as text for people.
        methods: Title -> method and options, in the order of the heatmaps.
        images: The images' file names.
        pixels: The digest of each image's pixels, followed by that of what is given with it, if the network takes more.
        layer: The layer at which the network was cut; empty if that is not known.
        gives: What the network gives.
        shared: Whether `probabilities` are probabilities.
        detections: Of a detector the lowest score of a detection, and the largest overlap of two of a class.
    """

    format: int
    network: str
    digest: str
    runtime: str
    methods: dict[str, RecordedMethod]
    images: tuple[str, ...]
    pixels: tuple[str, ...]
    layer: str = ""
    gives: Gives = "classes"
    shared: bool = True
    detections: tuple[float, ...] | None = field(default=None, metadata=schema.LATER)


@dataclass(frozen=True, eq=False)
class Recording:
    """A header and what was recorded of its n images."""

    header: RecordingHeader
    explained: Explained

    def save(self, path: Path) -> None:
        """Write the file, complete or not at all."""
        arrays: dict[str, Any] = {f"heatmaps-{i}": heat for i, heat in enumerate(self.explained.heatmaps.values())}
        with whole_file(path) as file:
            np.savez_compressed(
                file,
                # text as an array of bytes: an .npz file holds arrays only
                header=np.frombuffer(json.dumps(schema.dump(self.header)).encode(), np.uint8),
                logits=self.explained.logits,
                probabilities=self.explained.probabilities,
                **arrays,
                **_other_arrays(self.explained),
            )

    def rows(self, names: Sequence[str], images: Sequence[NDArray[Any]], beside: Sequence[str] = ()) -> Explained:
        """What was recorded of these images, in their order. `beside` are the digests of what is given with each, see `ByPath`.

        Raises:
            RecordingError: An image was not recorded, or was recorded with other pixels.
        """
        # By file name, because the folder may differ; the digest then shows a different image of the same name.
        known = {name: row for row, name in enumerate(self.header.images)}
        rows = []
        for name, image, own in zip(names, images, beside or [""] * len(names), strict=True):
            if name not in known:
                raise RecordingError(f"{name}: not among the {len(known)} images that were recorded; record it too")
            if array_digest(image) + own != self.header.pixels[known[name]]:
                raise RecordingError(
                    f"{name}: its pixels{', or what --input gives with it,' * bool(own)} differ from those "
                    "recorded under this name; give the same file (a PNG, if another OpenCV decodes it)"
                )
            rows.append(known[name])
        heatmaps = {title: heat[rows] for title, heat in self.explained.heatmaps.items()}
        whole, at = self.explained, np.array(rows, np.int64)
        return replace(
            whole,
            logits=whole.logits[rows],
            probabilities=whole.probabilities[rows],
            heatmaps=heatmaps,
            target=None if whole.target is None else whole.target.rows(at),
            predicted=None if whole.predicted is None else whole.predicted[rows],
            boxes=None if whole.boxes is None else whole.boxes.rows(rows),
        )


def _other_arrays(explained: Explained) -> dict[str, Any]:
    """What is recorded beside the scores of a network that gives no classes."""
    target, arrays = explained.target, {}
    if target is not None:
        arrays = {
            "seed-classes": target.seed.classes,
            "seed-weights": target.seed.weights,
            "seed-sign": target.seed.sign,
        }
        if target.where is not None:
            arrays["where"] = target.where
    if explained.boxes is not None:
        arrays |= explained.boxes.arrays()
    if explained.predicted is not None:
        arrays["predicted"] = explained.predicted.astype(np.int32)
    return arrays


def _target(arrays: Mapping[str, Any]) -> Settled | None:
    """What was explained, as `_other_arrays` wrote it; None for classes."""
    if "seed-classes" not in arrays:
        return None
    return Settled(Seed(arrays["seed-classes"], arrays["seed-weights"], arrays["seed-sign"]), arrays.get("where"))


def read(path: Path) -> Recording:
    """Read a recording.

    Raises:
        RecordingError: The file is missing, damaged, or not a recording.
    """
    try:
        if path.exists() and not path.is_file():
            raise RecordingError(f"{path}: not a plain file")
        arrays = read_npz(path, _LIMIT)
        fields = json.loads(arrays["header"].tobytes())
        if fields["format"] != FORMAT:
            raise RecordingError(f"{path}: format {fields['format']}; this version reads {FORMAT}, record again")
        header = schema.load(RecordingHeader, fields, "header")
        heatmaps = {title: arrays[f"heatmaps-{i}"] for i, title in enumerate(header.methods)}
        predicted = arrays["predicted"].astype(np.int64) if "predicted" in arrays else None
        explained = Explained(
            arrays["logits"],
            arrays["probabilities"],
            heatmaps,
            header.gives,
            header.shared,
            _target(arrays),
            predicted,
            Chosen.of_arrays(arrays["boxes"], arrays["chosen"]) if header.gives == "rows" else None,
        )
        if not _fit(header, explained):
            raise RecordingError(f"{path}: its parts do not fit together; record again")
    except FileNotFoundError:
        raise RecordingError(f"{path}: no such file or folder") from None
    except TooLargeError:
        raise RecordingError(f"{path}: unpacks to more than {_LIMIT >> 30} GiB; record fewer images") from None
    except OSError as error:
        raise RecordingError(f"{path}: can't be read ({error.strerror or error})") from None
    except RecordingError:
        raise
    except UnsoundZipError as error:
        raise RecordingError(f"{path}: is {error}; record again") from None
    except (
        Exception
    ):  # zipfile, zlib, json and NumPy's headers (Python expressions) fail in more ways than they document
        if path.stat().st_size == 0:
            raise RecordingError(f"{path}: is empty; record again") from None
        raise RecordingError(
            f"{path}: neither a bundle's folder nor a recording of xai-check --record, or damaged; record again"
        ) from None
    return Recording(header, explained)


def _fit(header: RecordingHeader, explained: Explained) -> bool:
    """Whether the arrays fit the header's images and hold values that a network can give: float32, finite, not empty."""
    logits, maps = explained.logits, list(explained.heatmaps.values())
    count = len(header.images)
    return (
        len(header.pixels) == count
        and logits.ndim == 2
        and logits.shape == explained.probabilities.shape
        and len(maps) > 0
        and all(heat.ndim in (3, 4) for heat in maps)
        and all(
            len(array) == count and array.size > 0 and array.dtype == np.float32 and bool(np.isfinite(array).all())
            for array in (logits, explained.probabilities, *maps)
        )
        and _target_fits(header, explained)
    )


def _target_fits(header: RecordingHeader, explained: Explained) -> bool:
    """Whether what was explained fits the images and the scores."""
    target, predicted, count = explained.target, explained.predicted, len(header.images)
    if header.gives == "rows":
        boxes = explained.boxes
        numbers = explained.logits.shape[1] == 1 and header.detections is not None
        return target is None and boxes is not None and len(boxes.number) == count and numbers
    if target is None or header.gives == "classes":
        return target is None and predicted is None and header.gives == "classes"
    seed, where = target.seed, target.where
    regions = 1 if where is None else where.shape[1]
    return (
        seed.classes.dtype == np.int64
        and seed.weights.dtype == np.float32
        and seed.sign.dtype == np.int8
        and seed.classes.ndim == 2
        and seed.classes.shape == seed.weights.shape
        and seed.sign.shape == (count,) == seed.classes.shape[:1]
        and bool(seed.classes.min() >= 0)
        and bool(seed.classes.max() < regions * explained.logits.shape[1])
        and bool(np.isfinite(seed.weights).all())
        and (where is None) == (header.gives != "dense")
        and (
            where is None
            or (where.ndim in (4, 5) and where.dtype == np.float32 and len(where) == count and bool(_weighs(where)))
        )
        and (predicted is None or (predicted.ndim in (3, 4) and len(predicted) == count and predicted.size > 0))
    )


def _weighs(where: Any) -> bool:
    """Whether each region has weights of at least 0, some of them above it."""
    return bool(
        where.size > 0
        and np.isfinite(where).all()
        and where.min() >= 0
        and where.reshape(*where.shape[:2], -1).any(axis=2).all()
    )


def joined(parts: Sequence[Explained]) -> Explained:
    """Several chunks concatenated to one."""
    heatmaps: Mapping[str, Any] = {
        title: np.concatenate([part.heatmaps[title] for part in parts]) for title in parts[0].heatmaps
    }
    targets = [part.target for part in parts if part.target is not None]
    predicted = [part.predicted for part in parts if part.predicted is not None]
    boxes = [part.boxes for part in parts if part.boxes is not None]
    return replace(
        parts[0],
        logits=np.concatenate([part.logits for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        heatmaps=heatmaps,
        target=Settled.join(targets) if targets else None,
        predicted=np.concatenate(predicted) if predicted else None,
        boxes=Chosen.join(boxes) if boxes else None,
    )
