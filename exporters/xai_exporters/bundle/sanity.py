"""The sanity check as a gate: maps that hardly change with random weights are not written.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.1: a method whose maps of a network with random weights
are those of the trained one shows the image, not what the network learnt. Each fused graph is compared with the same graph of the
network with all weights random, asked the same of each image (see `sanity_question`): the mean of Spearman's rank correlations.
Images whose map is the same everywhere are left out; one that is so with random weights alone counts as 0.
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

Maps = NDArray[np.float32]


def check_images(folder: Path) -> list[Path]:
    """The images of the check.

    Raises:
        RequestError: There are fewer than `FEWEST`.
        ImageFileError: The folder can't be read, or holds none.
    """
    files = image_files(folder, True)
    if len(files) < FEWEST:
        raise RequestError(f"--require-sanity {folder}: holds {len(files)} images; the check takes {FEWEST} at least")
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
    local = manifest.scores.kind == "rows"
    roles = {role: method for role in manifest.graphs if (method := fused_method(role)) is not None}
    measured = [
        _measured(method, _maps(trained(role), images, asked), _maps(random[role], images, asked), limit, local)
        for role, method in roles.items()
    ]
    return f"{', '.join(measured)}; {len(files)} images"


def _measured(method: str, maps: Maps, with_random: Maps, limit: float, local: bool) -> str:
    """The method and its mean rank correlation.

    Raises:
        VerificationError: It is the limit or more.
    """
    mean, count = _alike(method, maps, with_random, local)
    if mean >= limit:
        raise VerificationError(
            f"--require-sanity: maps of {method} hardly change when all weights are random: their mean rank correlation over "
            f"{count} images is {mean:.2f}, {limit:g} or more; take another method (--sanity-limit sets the limit)"
        )
    return f"{method} {mean:.2f}"


def _alike(method: str, maps: Maps, with_random: Maps, local: bool) -> tuple[float, int]:
    """The mean rank correlation of some maps with those of random weights, and of how many.

    `local`: a cell of a detector sees a part of the image. Where it lies does not depend on weights, so positions outside, where
    both maps are what they are at most positions, are left out.

    Raises:
        VerificationError: Too few can be compared.
    """
    # a map that random weights make the same everywhere has nothing in common with the trained one
    alike = np.nan_to_num(
        np.array([_where_seen(*pair) for pair in zip(maps, with_random, strict=True)])
        if local
        else spearman(maps, with_random)
    )
    known = (np.ptp(maps, axis=(1, 2)) > 0) & np.isfinite(with_random).all(axis=(1, 2))
    if (count := int(known.sum())) < FEWEST:
        raise VerificationError(
            f"--require-sanity: {method}: {len(known) - count} of {len(known)} maps are the same everywhere, or NaN with random "
            "weights: too few can be compared"
        )
    return float(alike[known].mean()), count


def _where_seen(one: Maps, other: Maps) -> float:
    """The rank correlation of two maps [1,positions] at the positions at which they are not both at their most frequent value."""
    seen = (one != _most_frequent(one)) | (other != _most_frequent(other))
    return float(spearman(one[seen][None], other[seen][None])) if seen.any() else 0.0


def _most_frequent(values: Maps) -> np.float32:
    found, counts = np.unique(values, return_counts=True)
    most: np.float32 = found[counts.argmax()]
    return most


def _maps(model: bytes, images: list[NDArray[Any]], asked: Sequence[Question]) -> Maps:
    """The maps of a fused graph, [n,1,positions]."""
    session = open_session(model, "a fused graph", optimise=True)
    given = session.get_inputs()[0].name
    feeds = ({given: image, **question} for image, question in zip(images, asked, strict=True))
    return flat(np.stack([run_taken(session, one, "a fused graph")[SALIENCY][0] for one in feeds]).astype(np.float32))
