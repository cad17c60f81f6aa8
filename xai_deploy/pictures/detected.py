"""Detections drawn on a photo: a thin frame around each, a thick one around those that a map explains."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ..detections import Detection
from ..images.module import opencv

Pixels = NDArray[np.uint8]

_OTHER, _CHOSEN, _EDGE = (200, 200, 200), (255, 255, 255), (32, 33, 36)  # RGB


def framed(picture: Pixels, found: Sequence[Detection], chosen: Collection[int], size: tuple[int, int]) -> Pixels:
    """A picture with the frames of detections, RGB [h,w,3]; a copy.

    Args:
        picture: The photo, or a map over it; it may be shrunk.
        found: What the network found. Each one's number is written beside its frame.
        chosen: The rows that are explained.
        size: (height, width) of the photo, in whose pixels boxes are.
    """
    cv2 = opencv()
    drawn = np.ascontiguousarray(picture).copy()
    down, across = picture.shape[0] / size[0], picture.shape[1] / size[1]
    thin = max(round(max(picture.shape[:2]) / 500), 1)
    ordered = sorted(enumerate(found), key=lambda pair: pair[1].row in chosen)  # those explained lie on top
    for number, one in ordered:
        left, top, right, bottom = one.box
        corners = (_whole(left * across), _whole(top * down)), (_whole(right * across), _whole(bottom * down))
        is_chosen = one.row in chosen
        width, color = (2 * thin, _CHOSEN) if is_chosen else (thin, _OTHER)
        cv2.rectangle(drawn, *corners, _EDGE, width + 2 * thin, cv2.LINE_AA)  # seen on light photos, too
        cv2.rectangle(drawn, *corners, color, width, cv2.LINE_AA)
        place = (max(corners[0][0], 0) + 3 * thin, max(corners[0][1], 0) + 14 * thin)
        for ink, stroke in ((_EDGE, 3 * thin), (color, thin)):
            cv2.putText(drawn, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.45 * thin, ink, stroke, cv2.LINE_AA)
    result: Pixels = drawn
    return result


def _whole(place: float) -> int:
    """A place as a whole pixel, within what OpenCV takes."""
    return int(np.clip(round(place), -30_000, 30_000))
