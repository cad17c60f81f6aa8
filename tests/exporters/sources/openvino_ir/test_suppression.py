"""NonMaxSuppression in an IR: `openvino_ir/rules/choosing.py`, `openvino_ir/suppression.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xai_exporters import Request
from xai_exporters.errors import SourceError
from xai_exporters.sources import load_source

from .running import agree, c, f32, ints, o, saved

RNG = np.random.default_rng(4)


def chosen(x: Any, output: int, encoding: str, ordered: bool, classes: int, **options: Any) -> Any:
    """One output of a suppression among 15 boxes of up to three classes, from x [N,3,5,7]."""
    flat = o.reshape(x, ints(0, -1), True)
    boxes = o.reshape(o.slice(flat, ints(0), ints(60), ints(1), ints(1)), ints(0, 15, 4), True)
    boxes = o.abs(boxes) if encoding == "center" else boxes  # an extent is not negative
    scores = o.reshape(o.slice(flat, ints(60), ints(60 + 15 * classes), ints(1), ints(1)), ints(0, classes, 15), True)
    limits = {"max_output_boxes_per_class": c(np.int64(6)), "iou_threshold": f32(0.3), "score_threshold": f32(-0.5)}
    node = o.non_max_suppression(
        boxes, scores, **{**limits, **options}, box_encoding=encoding, sort_result_descending=ordered
    )
    return o.convert(node.output(output), "f32")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("encoding", ["corner", "center"])
@pytest.mark.parametrize("output", [0, 1, 2], ids=["places", "scores", "number"])
def test_chooses_as_openvino_does(
    output: int, encoding: str, ordered: bool, classes: int, batch: int, tmp_path: Path
) -> None:
    path = saved(tmp_path, lambda x: chosen(x, output, encoding, ordered, classes), batch)
    agree(path, RNG.normal(size=(batch, 3, 5, 7)).astype(np.float32))


def test_the_limits_may_be_left_out(tmp_path: Path) -> None:
    """Then nothing is chosen: the most boxes of a class are 0."""
    none = {"max_output_boxes_per_class": None, "iou_threshold": None, "score_threshold": None}
    path = saved(
        tmp_path, lambda x: o.concat([o.reshape(x, ints(-1), False), chosen(x, 2, "corner", False, 1, **none)], 0), 1
    )
    agree(path, RNG.normal(size=(1, 3, 5, 7)).astype(np.float32))


def test_soft_suppression_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda x: chosen(x, 1, "corner", False, 1, soft_nms_sigma=f32(0.5)), 1)
    with pytest.raises(SourceError, match=r"\(NonMaxSuppression\): lowers the scores of boxes that overlap"):
        load_source(Request(path))


def test_places_of_numbers(tmp_path: Path) -> None:
    """As detectors choose rows above a threshold: how many there are depends on the image."""
    path = saved(tmp_path, lambda x: o.convert(o.non_zero(o.greater(x, f32(0.2)), "i32"), "f32"), 1)
    agree(path, RNG.normal(size=(1, 3, 5, 7)).astype(np.float32))


def test_filled_up(tmp_path: Path) -> None:
    """A list of as many boxes as there are, and then zeros."""

    def build(x: Any) -> Any:
        found = o.convert(o.non_zero(o.greater(x, f32(0.2)), "i64"), "f32")
        rest = o.subtract(ints(105), o.gather(o.shape_of(found), ints(1), c(0)))
        return o.pad(found, ints(0, 0), o.concat([ints(0), rest], 0), "constant", f32(-1))

    agree(saved(tmp_path, build, 1), RNG.normal(size=(1, 3, 5, 7)).astype(np.float32))
