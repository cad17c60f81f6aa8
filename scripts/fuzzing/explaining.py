"""Explains two images from a bundle, by a method for each graph that it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xai_deploy import Explainer
from xai_deploy.errors import XaiError

METHODS = {
    "head": "reciprocam",
    "tail": "reciprocam",
    "pixelwise-tail": "cam",
    "gradient": "grad-cam",
    "relevance": "relevance-cam",
    "input-gradient": "gradient",
    "guided-gradient": "guided-backprop",
    "pixel-relevance": "lrp",
}


def explain(bundle: Path, backend: str, roles: list[str]) -> None:
    """Open a bundle and explain by the methods of its graphs.

    Raises:
        XaiError: It is refused.
    """
    explainer = Explainer(bundle, backend, threads=1, batch_size=2)
    spec = explainer.bundle.manifest.input
    if spec.height * spec.width > 1 << 22:
        raise XaiError("the fuzzer's own limit: an image this large is no fault")
    images = [np.full((spec.height, spec.width, 3), 17 * k, np.uint8) for k in range(2)]
    for role in roles:
        explainer.explain(images, METHODS[role])
