"""The module `cv2`, of a version that can be trusted with damaged files."""

from __future__ import annotations

import re
from typing import Any

from ..errors import BackendNotInstalledError

_LEAST = (4, 11)  # older versions read a truncated file as a half grey picture; from 4.11 on, `imdecode` gives None


def opencv() -> Any:
    """The module `cv2`.

    Raises:
        BackendNotInstalledError: It is not installed, or older than 4.11.
    """
    try:
        import cv2
    except ImportError:
        raise BackendNotInstalledError(
            "image files and detectors' boxes need OpenCV; pip install 'xai-deploy[image]'"
        ) from None
    if tuple(int(part) for part in re.findall(r"\d+", cv2.__version__)[:2]) < _LEAST:
        raise BackendNotInstalledError(
            f"image files need OpenCV 4.11 or newer, not {cv2.__version__}, which accepts truncated files; "
            "pip install -U 'xai-deploy[image]'"
        )
    return cv2
