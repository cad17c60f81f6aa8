"""The sanity check as a gate: maps that hardly change with random weights are not written.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.1: a method whose maps of a network with random weights
are those of the trained one shows the image, not what the network learnt. Each fused graph is compared with the same graph of the
network with all weights random, asked the same of each image (see `sanity_question`): the mean of Spearman's rank correlations.
Images whose map is the same everywhere are left out; one that is so with random weights alone counts as 0.

A row of a detector sees a part of the image, whatever the weights are: outside, both maps hold one value, so that over the whole
map two unrelated ones correlate with nearly 1. Only positions that the row sees are compared: those at which any map of either
network shows something, if the same is asked of further images. Positions inside at which the two maps of an image are both empty
do count: leaving them out, too, would make unrelated maps that are empty at most positions look opposite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.format.bundle import SALIENCY, Manifest, fused_method
from xai_deploy.images.folder import image_files
from xai_deploy.preprocess import prepare
from xai_deploy.similarity import flat, spearman

from ..errors import RequestError, VerificationError
from ..graph.measure import open_session, run_taken
from .sanity_question import Question, questions

FEWEST = 10
"""The least number of images."""

_FURTHER = 4
"""Images beside its own of which a row is asked. With two networks this gives ten maps; a position that is empty by chance in half
of all maps is missed once in a thousand."""

Maps = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ask = Callable[[int], Maps]
"""Maps [n,1,positions] of a fused graph: each question asked of the image so many places later; 0: of its own."""


def check_images(folder: Path) -> list[Path]:
    """The images of the check.

    Raises:
        RequestError: There are fewer than `FEWEST`.
        ImageFileError: The folder can't be read, or holds none.
    """
    files = image_files(folder, True)
    if len(files) < FEWEST:
        held = f"holds {len(files)} image{'s' * (len(files) != 1)}"
        raise RequestError(f"--require-sanity {folder}: {held}; the check takes {FEWEST} at least")
    return files


def require_sanity(
    files: list[Path],
    limit: float,
    manifest: Manifest,
    trained: Callable[[str], bytes],
    random: Mapping[str, bytes],
) -> str:
    """Compare the fused graphs of a network with those of the same network with random weights.

    Args:
        files: The images.
        limit: The mean rank correlation from which a method is refused.
        manifest: The bundle's.
        trained: Gives the file of a role.
        random: Role -> the file for random weights.

    Returns:
        What was measured, for the manifest: "grad-cam 0.12, reciprocam 0.05; 12 images".

    Raises:
        RequestError: The network takes something beside the image.
        VerificationError: The maps of a method hardly change, or too few of them can be compared.
        InputError: An image can't be read.
    """
    if manifest.further.ports:
        names = ", ".join(port.name for port in manifest.further.ports)
        raise RequestError(
            f"--require-sanity: the network takes {names} beside the image, which a folder of images does not hold; leave it out"
        )
    images = [prepare(file, manifest.input)[None] for file in files]
    asked = questions(manifest, trained, images)
    # a row that the graph itself chooses lies elsewhere in each image
    images_of_a_row = 1 if manifest.choices else 1 + _FURTHER
    roles = {role: method for role in manifest.graphs if (method := fused_method(role)) is not None}
    measured = []
    for role, method in roles.items():
        one, other = (_asker(model, images, asked) for model in (trained(role), random[role]))
        seen = _seen(one, other, images_of_a_row) if manifest.scores.kind == "rows" else None
        measured.append(_measured(method, one(0), other(0), limit, seen))
    return f"{', '.join(measured)}; {len(files)} images"


def _measured(method: str, maps: Maps, with_random: Maps, limit: float, seen: Mask | None) -> str:
    """The method and its mean rank correlation.

    Raises:
        VerificationError: It is the limit or more.
    """
    mean, count = _alike(method, maps, with_random, seen)
    if mean >= limit:
        raise VerificationError(
            f"--require-sanity: maps of {method} hardly change when all weights are random: their mean rank correlation over "
            f"{count} images is {mean:.2f}, {limit:g} or more; take another method (--sanity-limit sets the limit)"
        )
    return f"{method} {mean:.2f}"


def _alike(method: str, maps: Maps, with_random: Maps, seen: Mask | None) -> tuple[float, int]:
    """The mean rank correlation of some maps with those of random weights, and of how many.

    Args:
        method: Their method.
        maps: Of the trained network, [n,1,positions].
        with_random: Of the other one.
        seen: The positions that are compared, [n,positions]; None: all.

    Raises:
        VerificationError: Too few can be compared.
    """
    pairs = zip(maps[:, 0], with_random[:, 0], np.ones(maps[:, 0].shape, bool) if seen is None else seen, strict=True)
    alike = np.array([_correlation(one[there], other[there]) for one, other, there in pairs])
    known = (np.ptp(maps, axis=(1, 2)) > 0) & np.isfinite(with_random).all(axis=(1, 2))
    if (count := int(known.sum())) < FEWEST:
        raise VerificationError(
            f"--require-sanity: {method}: {len(known) - count} of {len(known)} maps are the same everywhere, or NaN with random "
            "weights: too few can be compared"
        )
    return float(alike[known].mean()), count


def _correlation(one: Maps, other: Maps) -> float:
    """The rank correlation of two maps; 0 if one is the same everywhere: it has nothing in common with the other."""
    return float(np.nan_to_num(spearman(one[None], other[None]))) if one.size else 0.0


def _seen(one: Ask, other: Ask, images: int) -> Mask:
    """The positions that the rows see, [n,positions]: those at which any map of some images differs from its commonest value."""
    maps = (ask(later)[:, 0] for later in range(images) for ask in (one, other))
    seen: Mask = np.logical_or.reduce(
        [of_each != np.array([_most_frequent(of_one) for of_one in of_each])[:, None] for of_each in maps]
    )
    return seen


def _most_frequent(values: Maps) -> np.float32:
    found, counts = np.unique(values, return_counts=True)
    most: np.float32 = found[counts.argmax()]
    return most


def _asker(model: bytes, images: list[NDArray[Any]], asked: Sequence[Question]) -> Ask:
    """Asks a fused graph."""
    session = open_session(model, "a fused graph", optimise=True)
    given = session.get_inputs()[0].name

    def ask(later: int) -> Maps:
        feeds = ({given: images[(i + later) % len(images)], **question} for i, question in enumerate(asked))
        return flat(
            np.stack([run_taken(session, one, "a fused graph")[SALIENCY][0] for one in feeds]).astype(np.float32)
        )

    return ask
