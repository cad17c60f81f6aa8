"""SLIC superpixels (Achanta et al. 2012) by scikit-image, extra `segments`: the only module that imports it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendNotInstalledError


def slic(pixels: NDArray[np.floating[Any]], count: int, colors: bool) -> NDArray[np.int64]:
    """About `count` superpixels: labels from 0, [H,W], or [D,H,W] of a volume.

    Args:
        pixels: [H,W,C] or [D,H,W,C] in [0,1].
        count: How many are asked for.
        colors: The channels are red, green and blue; distances are then those of CIELAB.

    Raises:
        BackendNotInstalledError: scikit-image is not installed.
    """
    try:
        from skimage.segmentation import slic as segment
    except ImportError:
        raise BackendNotInstalledError(
            "segments=slic:N needs scikit-image; pip install 'xai-deploy[segments]'"
        ) from None
    labels = segment(pixels, n_segments=count, compactness=10.0, convert2lab=colors, start_label=0, channel_axis=-1)
    return np.asarray(labels, np.int64)
