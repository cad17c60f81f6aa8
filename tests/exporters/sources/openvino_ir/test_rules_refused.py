"""What the rules refuse: the node, and what it does that has no equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xai_exporters.errors import GraphError
from xai_exporters.sources.openvino_ir.translate import translate

from .running import c, f32, ints, o, o14, ov, saved
from .test_rules import dropout

REFUSED: dict[str, tuple[Any, str]] = {
    "dropout": (lambda x: dropout(x, 0.75), "draws random numbers"),
    "dropout of old": (lambda x: dropout(x, 0.75, True), "draws random numbers"),
    "blocks that stay": (
        lambda x: o.space_to_batch(x, ints(1, 1, 1, 7), *[ints(0, 0, 0, 0)] * 2), "makes images of an image's blocks"
    ),
    "blocks that come back in part": (
        lambda x: o.batch_to_space(
            o.multiply(o.space_to_batch(x, ints(1, 1, 5, 7), *[ints(0, 0, 0, 0)] * 2), f32(2)),
            ints(1, 1, 1, 7), *[ints(0, 0, 0, 0)] * 2,
        ),
        "makes images of an image's blocks",
    ),
    "reverse": (lambda x: o.reverse_sequence(x, ints(2), 0, 1), "reverses a part of each row"),
    "window in the padding": (
        lambda x: o14.max_pool(x, [3, 2], [1, 1], [1, 1], [1, 0], [2, 3], "ceil").output(0), "windows that lie in the padding"
    ),
    "padding that counts": (
        lambda x: o14.avg_pool(x, [2, 2], [1, 1], [1, 0], [3, 3], False, "ceil_torch"),
        "rounds its size up as torch does: .* export it without ceil_mode"
    ),
    "lrn": (lambda x: o.lrn(x, ints(1), 0.3, 0.75, 1.2, 3), "has the bias 1.2, which OpenVINO's CPU takes for 1"),
    "lrn over positions": (lambda x: o.lrn(x, ints(2, 3), 0.3, 0.75, 1.0, 3), "normalises over positions"),
    "pad": (lambda x: o.pad(x, ints(0, 0, 1, -1), ints(0, 0, 1, 1), "symmetric"), "pads in the mode symmetric and crops"),
    "top k": (lambda x: o.topk(x, c(np.int64(2)), 3, "max", "index").output(0), "sorts by index"),
    "antialias": (
        lambda x: o.interpolate(
            x, ints(3, 4), "linear", "sizes", [0] * 4, [0] * 4, "half_pixel", "floor", True, -0.75, ints(2, 3)
        ),
        "resizes with antialias",
    ),
    "places": (
        lambda x: o.interpolate(
            x, ints(3, 4), "nearest", "sizes", [0] * 4, [0] * 4, "tf_half_pixel_for_nn", "ceil", False, -0.75, ints(2, 3)
        ),
        "which ONNX's Resize does not have",
    ),
    "grows and shrinks": (
        lambda x: o.interpolate(
            x, ints(10, 4), "nearest", "sizes", [0] * 4, [0] * 4, "asymmetric", "simple", False, -0.75, ints(2, 3)
        ),
        "grows along one axis and shrinks along another",
    ),
    "slopes": (lambda x: o.prelu(x, o.reduce_mean(x, ints(0, 2, 3), True)), "its slopes depend on the image"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    build, message = REFUSED[name]
    with pytest.raises(GraphError, match=rf"^the node '.*' \(\w+\): .*{message}"):
        translate(ov.Core().read_model(saved(tmp_path, build, 1)), 1 << 30)
