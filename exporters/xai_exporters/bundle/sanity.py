"""The sanity check as a gate: maps that hardly change with random weights are not written.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.1: a method whose maps of a network with random weights
are those of the trained one shows the image, not what the network learnt. Each fused graph is compared with the same graph of the
network with all weights random, for the class that the trained network predicts: the mean of Spearman's rank correlations. Images
whose map is the same everywhere are left out; one that is so with random weights alone counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.format.bundle import SALIENCY, TARGET, Manifest, fused_method
from xai_deploy.images.folder import image_files
from xai_deploy.preprocess import prepare
from xai_deploy.similarity import flat, spearman

from ..errors import RequestError, VerificationError
from ..graph.measure import open_session, run

FEWEST = 10
"""The least number of images."""

Images = list[NDArray[Any]]


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
        RequestError: The network is no classifier that takes one image, or its graphs prepare images themselves.
        VerificationError: The maps of a method hardly change, or too few of them can be compared.
        InputError: An image can't be read.
    """
    if manifest.scores.kind != "classes" or manifest.further.ports:
        raise RequestError("--require-sanity: compares maps of classifiers that take one image; leave it out")
    images = [prepare(file, manifest.input)[None] for file in files]
    own = next(output.name for output in manifest.outputs if output.kind != "other")
    measured = []
    for role, other in random.items():
        method = fused_method(role)
        maps, classes = _maps(trained(role), images, own, None)
        with_random, _ = _maps(other, images, own, classes)
        alike = spearman(flat(maps), flat(with_random))
        # a map that random weights make the same everywhere has nothing in common with the trained one
        known = np.nan_to_num(alike[np.ptp(flat(maps), axis=(1, 2)) > 0])
        if len(known) < FEWEST:
            raise VerificationError(
                f"--require-sanity: {method}: {len(alike) - len(known)} of {len(alike)} maps are the same everywhere: too "
                "few can be compared"
            )
        mean = float(known.mean())
        if mean >= limit:
            raise VerificationError(
                f"--require-sanity: maps of {method} hardly change when all weights are random: their mean rank correlation over "
                f"{len(known)} images is {mean:.2f}, {limit:g} or more; take another method (--sanity-limit sets the limit)"
            )
        measured.append(f"{method} {mean:.2f}")
    return f"{', '.join(measured)}; {len(files)} images"


def _maps(
    model: bytes, images: Images, output: str, classes: list[int] | None
) -> tuple[NDArray[np.float32], list[int]]:
    """The maps [n,...] of a fused graph, and the classes; None: those that it predicts."""
    session = open_session(model, "a fused graph", optimise=True)
    names = [given.name for given in session.get_inputs()]
    maps, chosen = [], []
    for i, image in enumerate(images):
        feeds = {names[0]: image}
        if TARGET in names:
            feeds[TARGET] = np.array([-1 if classes is None else classes[i]], np.int64)
        results = run(session, feeds, "a fused graph")
        maps.append(np.asarray(results[SALIENCY][0], np.float32))
        chosen.append(int(results[output].reshape(-1).argmax()))
    return np.stack(maps), chosen
