"""The letterbox of Ultralytics: its own lines, with OpenCV, and the way back for boxes and maps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from xai_deploy.detections import in_input, on_photo
from xai_deploy.format.bundle import Input
from xai_deploy.format.image_input import Preprocess
from xai_deploy.methods.segments import segments
from xai_deploy.pictures.photo import on_photo as map_on_photo
from xai_deploy.preprocess import frame, prepare

SIZES = [(480, 640), (37, 90), (90, 37), (64, 96), (11, 500), (333, 334)]


def spec(height: int = 64, width: int = 96) -> Input:
    how = Preprocess(resize="letterbox", antialias=False, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Input("x", "NCHW", 3, height, width, "float32", how)


def ultralytics(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """`ultralytics.data.augment.LetterBox.__call__`, release 8.4, line by line."""
    shape, new_shape = image.shape[:2], (height, width)
    r = min(new_shape[0] / shape[0], new_shape[1] / shape[1])
    new_unpad = round(shape[1] * r), round(shape[0] * r)
    dw, dh = new_shape[1] - new_unpad[0], new_shape[0] - new_unpad[1]
    dw /= 2
    dh /= 2
    if shape[::-1] != new_unpad:
        image = np.asarray(cv2.resize(image, new_unpad, interpolation=cv2.INTER_LINEAR), np.uint8)
    top, bottom = round(dh - 0.1), round(dh + 0.1)
    left, right = round(dw - 0.1), round(dw + 0.1)
    boxed = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return np.asarray(boxed, np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("network", [(64, 96), (65, 65)])
def test_the_input_is_ultralytics_own(size: tuple[int, int], network: tuple[int, int]) -> None:
    """OpenCV weighs pixels by 11 bits, so that a value may be rounded to the next one."""
    image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    wanted = np.moveaxis(ultralytics(image, *network), -1, 0).astype(np.float32)
    got = prepare(image, spec(*network))
    assert np.abs(got - wanted).max() <= 1
    assert (got == wanted).mean() > 0.85
    border = (wanted == 114).all(axis=(0, 2))
    assert (got[:, border] == 114).all()


@pytest.mark.parametrize("size", SIZES)
def test_boxes_and_maps_come_back(size: tuple[int, int]) -> None:
    """A pixel of the photo lies where the resized photo shows it; the border shows nothing of it."""
    own = spec()
    assert frame(*size, own) == (0, 0, *size)
    box = (1.0, 2.0, size[1] - 3.0, size[0] - 2.0)
    inside = in_input(box, own, size)
    np.testing.assert_allclose(on_photo(inside[None], own, size)[0], box, atol=1e-3)
    ratio = min(64 / size[0], 96 / size[1])
    assert inside[2] - inside[0] == pytest.approx((box[2] - box[0]) * ratio, rel=0.1)
    lit = np.zeros((64, 96), np.float32)  # the border alone is hot
    (top, left), (height, width) = _border(size)
    lit[:top], lit[top + height :], lit[:, :left], lit[:, left + width :] = 1, 1, 1, 1
    assert not map_on_photo(lit, *size, own)[2:-2, 2:-2].any()


def test_labels_of_a_photo_leave_the_border_out(tmp_path: Path) -> None:
    """Segments of a file: each pixel of the resized photo has its label, and the border is a segment of its own."""
    labels = np.arange(4).repeat(20)[:, None].repeat(40, axis=1)  # 80 x 40, four bands
    np.save(tmp_path / "labels.npy", labels)
    forward: Any = SimpleNamespace(
        spec=spec(64, 96), sizes=[labels.shape], image_size=(64, 96), x=np.zeros((1, 3, 64, 96))
    )
    [got] = segments("lime", str(tmp_path / "labels.npy"), forward)
    wanted = np.full((64, 96), 4)
    wanted[:, 32:64] = np.arange(4).repeat(16)[:, None]
    np.testing.assert_array_equal(got, wanted)


def _border(size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    ratio = min(64 / size[0], 96 / size[1])
    height, width = round(size[0] * ratio), round(size[1] * ratio)
    return (round((64 - height) / 2 - 0.1), round((96 - width) / 2 - 0.1)), (height, width)
