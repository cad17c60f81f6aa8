"""What a network of dense scores itself gives at each place: its own output as probabilities, and the class that it predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import resample
from .errors import NotApplicableError, TargetError
from .format.bundle import Manifest, Output
from .probabilities import has_probabilities, probabilities, why_none

Array = NDArray[np.float32]
Index = NDArray[np.int64]


def own_output(manifest: Manifest) -> Output:
    """The output of a network of dense scores from which its prediction is read."""
    return next(output for output in manifest.outputs if output.kind != "other")


def class_axis(per_image: tuple[int, ...], manifest: Manifest) -> int:
    """The axis of the classes in the network's own output, the batch counted; 0: it has none.

    With as many classes as rows or columns both axes fit: the exporter then takes that of the input's channels.

    Args:
        per_image: The output's shape without the batch.
        manifest: The bundle's manifest.
    """
    rank, classes = len(manifest.scores.shape), manifest.scores.shape[0]
    fitting = [axis for axis in (1, rank) if len(per_image) == rank and per_image[axis - 1] == classes]
    return manifest.input.channel_axis if len(fitting) == 2 else next(iter(fitting), 0)


def why_no_places(manifest: Manifest) -> str | None:
    """Why the network's own output shows no class's probability at each place; None if it does."""
    own = own_output(manifest)
    if own.kind == "derived" or not class_axis(own.shape, manifest):
        return (
            f"it shows the probability of each class at each place, which the network's output {own.name!r} does not hold; export "
            "the network without what follows its scores (ArgMax, a threshold)"
        )
    if own.kind == "probabilities" or has_probabilities(manifest.activation, manifest.classes):
        return None
    return why_none(manifest.activation)


def at_places(values: NDArray[Any], manifest: Manifest) -> Array:
    """The probability of each class at each place, [n,C,H,W], at the size of the network's own output.

    Args:
        values: The output `own_output`, of n images.
        manifest: The bundle's manifest; `why_no_places` is None.

    Raises:
        NotApplicableError: The output holds the codes of a quantised network.
    """
    own = own_output(manifest)
    if values.dtype.kind != "f":
        raise NotApplicableError(
            f"the network's output {own.name!r} holds {values.dtype} codes, which are no probabilities"
        )
    last = np.moveaxis(values.astype(np.float32, copy=False), class_axis(values.shape[1:], manifest), -1)
    shares = last if own.kind == "probabilities" else probabilities(last, manifest.activation)
    return np.ascontiguousarray(np.moveaxis(shares, -1, 1))


def predicted_by(values: NDArray[Any], manifest: Manifest) -> Index:
    """The class that the network itself predicts at each position of its dense scores, [n,H,W]; -1 for none.

    It is taken from the network's own output, resized to the scores if it has another size. A single class is predicted above a
    probability of one half, or a score of 0.

    Args:
        values: The output `own_output`, of n images.
        manifest: The bundle's manifest.

    Raises:
        TargetError: There is a single class, and the output holds codes of a quantised network: what half is, is not known.
    """
    classes, *places = manifest.scores.shape
    own = own_output(manifest)
    per_image = values.shape[1:]
    axis = class_axis(per_image, manifest)
    if axis and classes > 1:
        chosen = values.argmax(axis=axis)
    elif classes > 1:
        chosen = values.reshape(len(values), *[d for d in per_image if d != 1])
    elif values.dtype.kind != "f":
        raise TargetError(
            f"the network's output {own.name!r} holds {values.dtype} codes, which do not tell where its only class is predicted; "
            "name a region (0@x,y,width,height, 0@mask.png or 0@all)"
        )
    else:
        scores = values.reshape(len(values), *[d for d in per_image if d != 1])
        chosen = np.where(scores > (0.5 if manifest.activation in ("sigmoid", "independent") else 0), 0, -1)
    maps = chosen.astype(np.float32)
    if list(maps.shape[1:]) != places:
        maps = resample.resize(maps, *places, interpolation="nearest")
    return np.asarray(maps, np.int64)
