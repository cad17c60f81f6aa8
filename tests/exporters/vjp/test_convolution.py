"""Convolutions over strides, pads, dilations, groups, odd sizes, one to three dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F

from .harness import Case, Free, check

RNG = np.random.default_rng(0)


def weight(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def conv(x: tuple[int, ...], w: tuple[int, ...], **attributes: Any) -> Case:
    return Case("Conv", (Free(("N", *x)), weight(*w), weight(w[0])), attributes)


def transposed(x: tuple[int, ...], w: tuple[int, ...], **attributes: Any) -> Case:
    return Case("ConvTranspose", (Free(("N", *x)), weight(*w)), attributes)


def like_torch(x: tuple[int, ...], w: tuple[int, ...], stride: Any, padding: Any, dilation: Any, group: int) -> Case:
    values = weight(*w)
    rank = len(w) - 2
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    import torch

    tensor = torch.from_numpy(values.astype(np.float64))
    return Case(
        "Conv",
        (Free(("N", *x)), values),
        {"strides": stride, "pads": [*padding, *padding], "dilations": dilation, "group": group},
        torch=lambda v: function(v, tensor, None, stride, padding, dilation, group),
    )


CASES = [
    like_torch((3, 7, 9), (4, 3, 3, 3), [1, 1], [1, 1], [1, 1], 1),
    like_torch((3, 7, 9), (4, 3, 3, 3), [2, 2], [1, 1], [1, 1], 1),
    like_torch((4, 8, 7), (6, 2, 3, 2), [2, 1], [0, 1], [1, 2], 2),
    like_torch((4, 9, 7), (8, 1, 3, 3), [1, 1], [1, 1], [1, 1], 4),
    like_torch((4, 9, 7), (4, 1, 3, 3), [2, 2], [1, 1], [1, 1], 4),
    like_torch((6, 7, 8), (6, 3, 3, 3), [2, 2], [1, 1], [1, 1], 2),
    like_torch((3, 11), (4, 3, 4), [3], [2], [2], 1),
    like_torch((2, 5, 4, 6), (3, 2, 2, 3, 2), [1, 2, 1], [1, 0, 1], [1, 1, 2], 1),
    like_torch((2, 5, 4, 6), (3, 2, 2, 3, 2), [1, 1, 1], [1, 0, 1], [1, 1, 2], 1),
    conv((3, 7, 9), (5, 3, 1, 1)),
    conv((3, 7, 9), (5, 3, 1, 1), strides=[2, 2]),
    conv((3, 7, 9), (3, 3, 1, 1), strides=[2, 3]),
    conv((3, 8, 9), (5, 3, 2, 2), strides=[3, 3]),
    conv((3, 7, 9), (5, 3, 3, 3), pads=[0, 1, 2, 0]),
    conv((3, 7, 9), (5, 3, 3, 3), pads=[2, 1, 0, 2], strides=[2, 2]),
    conv((3, 5, 6), (4, 3, 2, 2), pads=[3, 3, 3, 3]),
    conv((3, 5, 6), (4, 3, 2, 2), pads=[3, 3, 3, 3], strides=[2, 2]),
    conv((3, 7, 9), (4, 3, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
    conv((3, 7, 9), (4, 3, 3, 2), auto_pad="SAME_LOWER", strides=[2, 2]),
    conv((3, 7, 9), (4, 3, 3, 2), auto_pad="SAME_LOWER"),
    conv((3, 7, 9), (4, 3, 3, 2), auto_pad="VALID", strides=[1, 2]),
    conv((4, 7, 9), (4, 1, 1, 1), group=4),
    conv((4, 9, 9), (4, 4, 3, 3), dilations=[2, 2], pads=[2, 2, 2, 2]),
    transposed((3, 4, 5), (3, 2, 3, 3)),
    transposed((3, 4, 5), (3, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    transposed((4, 4, 5), (4, 3, 3, 2), strides=[2, 1], pads=[0, 1, 1, 0], group=2),
    transposed((4, 4, 5), (4, 1, 3, 3), strides=[2, 2], group=4),
    transposed((3, 4, 5), (3, 2, 3, 3), dilations=[2, 1], pads=[1, 1, 1, 1]),
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], output_shape=[8, 10]),
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    transposed((3, 6), (3, 2, 4), strides=[3], pads=[1, 2]),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
