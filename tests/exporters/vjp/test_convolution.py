"""Convolutions over strides, pads, dilations, groups, odd sizes, in one to three dimensions: `convolution.py`, `window.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from onnx import helper

from .harness import Case, Free, Gradient, check, check_graph, double, forward_model, graph_model, weights

W = weights()
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(x: tuple[int, ...], w: tuple[int, ...], torch_too: bool = True, **attributes: Any) -> Case:
    """With torch's function where the padding is symmetric, as torch has it."""
    weight, bias = W(*w), W(w[0])
    rank = len(w) - 2
    pads = attributes.get("pads", [0] * 2 * rank)
    options = {k: attributes.get(k, [1] * rank) for k in ("strides", "dilations")}

    def function(v: torch.Tensor) -> torch.Tensor:
        return CONV[rank](
            v, double(weight), double(bias), options["strides"], pads[:rank], options["dilations"], attributes.get("group", 1)
        )  # fmt: skip

    same = pads[:rank] == pads[rank:] and "auto_pad" not in attributes
    return Case("Conv", (Free(("N", *x)), weight, bias), attributes, torch=function if same else None)


def transposed(x: tuple[int, ...], w: tuple[int, ...], bias: bool = False, **attributes: Any) -> Case:
    """As `conv`."""
    weight = W(*w)
    group = attributes.get("group", 1)
    biases = [W(w[1] * group)] if bias else []
    rank = len(w) - 2
    pads = attributes.get("pads", [0] * 2 * rank)

    def function(v: torch.Tensor) -> torch.Tensor:
        return TRANSPOSED[rank](
            v, double(weight), double(biases[0]) if bias else None, attributes.get("strides", 1), pads[:rank],
            attributes.get("output_padding", 0), group, attributes.get("dilations", 1),
        )  # fmt: skip

    same = pads[:rank] == pads[rank:] and "auto_pad" not in attributes and "output_shape" not in attributes
    return Case("ConvTranspose", (Free(("N", *x)), weight, *biases), attributes, torch=function if same else None)


CASES = [
    conv((3, 7, 9), (4, 3, 3, 3), pads=[1] * 4),
    conv((3, 7, 9), (4, 3, 3, 3)),
    conv((3, 7, 9), (4, 3, 3, 3), strides=[2, 2], pads=[1] * 4),
    conv((3, 8, 10), (4, 3, 3, 3), strides=[2, 2], pads=[1] * 4),  # the last row is read by no window
    conv((3, 11, 12), (4, 3, 3, 3), strides=[3, 3]),
    conv((3, 7, 9), (5, 3, 1, 1)),
    conv((4, 7, 9), (4, 4, 1, 1)),
    conv((3, 7, 9), (5, 3, 1, 1), strides=[2, 2]),
    conv((3, 7, 9), (3, 3, 1, 1), strides=[2, 3]),
    conv((3, 8, 9), (5, 3, 2, 2), strides=[3, 3]),  # stride > kernel
    conv((3, 7, 9), (5, 3, 2, 4), pads=[1, 2, 1, 2]),
    conv((3, 7, 9), (5, 3, 4, 2), strides=[2, 1]),
    conv((3, 7, 9), (5, 3, 3, 3), pads=[0, 1, 2, 0]),
    conv((3, 7, 9), (5, 3, 3, 3), pads=[2, 1, 0, 2], strides=[2, 2]),
    conv((3, 5, 6), (4, 3, 2, 2), pads=[3] * 4),  # pads larger than the kernel
    conv((3, 5, 6), (4, 3, 2, 2), pads=[3] * 4, strides=[2, 2]),
    conv((3, 5, 6), (4, 3, 1, 1), pads=[1] * 4),
    conv((4, 9, 9), (4, 4, 3, 3), dilations=[2, 2], pads=[2] * 4),
    conv((4, 9, 9), (4, 4, 3, 3), dilations=[2, 3], pads=[1, 2, 0, 3], strides=[2, 1]),
    conv((4, 8, 7), (6, 2, 3, 2), strides=[2, 1], pads=[0, 1, 0, 1], dilations=[1, 2], group=2),
    conv((6, 7, 8), (6, 3, 3, 3), strides=[2, 2], pads=[1] * 4, group=2),
    conv((6, 7, 8), (6, 3, 3, 3), pads=[1] * 4, group=2),
    conv((6, 7, 8), (4, 3, 3, 3), group=2),
    conv((4, 9, 7), (4, 1, 3, 3), pads=[1] * 4, group=4),  # depthwise
    conv((4, 9, 7), (4, 1, 3, 3), strides=[2, 2], pads=[1] * 4, group=4),
    conv((4, 9, 7), (8, 1, 3, 3), pads=[1] * 4, group=4),  # with a multiplier
    conv((4, 9, 7), (8, 1, 3, 3), strides=[2, 2], group=4),
    conv((4, 7, 9), (4, 1, 1, 1), group=4),
    conv((3, 7, 9), (4, 3, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
    conv((3, 7, 9), (4, 3, 3, 2), auto_pad="SAME_LOWER", strides=[2, 2]),
    conv((3, 7, 9), (4, 3, 4, 2), auto_pad="SAME_UPPER"),
    conv((3, 7, 9), (4, 3, 4, 2), auto_pad="SAME_LOWER"),
    conv((3, 7, 9), (4, 3, 3, 2), auto_pad="VALID", strides=[1, 2]),
    conv((3, 11), (4, 3, 4), strides=[3], pads=[2, 2], dilations=[2]),
    conv((3, 11), (3, 3, 5), pads=[2, 2]),
    conv((2, 5, 4, 6), (3, 2, 2, 3, 2), strides=[1, 2, 1], pads=[1, 0, 1] * 2, dilations=[1, 1, 2]),
    conv((2, 5, 4, 6), (3, 2, 2, 3, 2), pads=[1, 0, 1] * 2, dilations=[1, 1, 2]),
    conv((3, 15, 14), (4, 3, 7, 7), strides=[2, 2], pads=[3] * 4),  # by phases, as what follows, up to 4 channels
    conv((3, 16, 17), (4, 3, 7, 7), strides=[2, 2], pads=[2, 3, 3, 2]),
    conv((2, 13, 14), (5, 2, 4, 4), strides=[4, 4]),  # patches; the last row and columns are read by none
    conv((3, 19, 18), (4, 3, 11, 11), strides=[4, 4], pads=[2] * 4),
    conv((1, 13, 9), (2, 1, 5, 6), strides=[2, 2], pads=[4, 0, 0, 5]),
    conv((4, 9, 10), (3, 4, 6, 6), strides=[3, 3], pads=[7] * 4),  # pads larger than the kernel
    conv((3, 14, 15), (4, 3, 7, 7), strides=[2, 2], auto_pad="SAME_UPPER"),
    transposed((3, 4, 5), (3, 2, 3, 3), bias=True),
    transposed((3, 4, 5), (3, 3, 2, 2), strides=[2, 2]),
    transposed((3, 4, 5), (3, 3, 3, 3), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    transposed((3, 4, 5), (3, 2, 2, 2), strides=[3, 3], output_padding=[2, 1]),
    transposed((4, 4, 5), (4, 3, 3, 2), strides=[2, 1], pads=[0, 1, 1, 0], group=2, bias=True),
    transposed((4, 4, 5), (4, 1, 3, 3), strides=[2, 2], group=4),
    transposed((4, 4, 5), (4, 2, 3, 3), pads=[1] * 4, group=4),
    transposed((3, 4, 5), (3, 2, 3, 3), dilations=[2, 1], pads=[1] * 4),
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], output_shape=[8, 10]),
    transposed((3, 4, 5), (3, 2, 1, 3), strides=[3, 2], output_shape=[12, 12]),  # larger than what it reaches
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], output_shape=[8, 10], auto_pad="SAME_UPPER"),
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], auto_pad="VALID"),
    transposed((3, 4, 5), (3, 2, 3, 3), strides=[2, 2], output_shape=[8, 10], auto_pad="VALID"),
    transposed((3, 6), (3, 2, 4), strides=[3], pads=[1, 2]),
    transposed((2, 3, 2, 3), (2, 3, 2, 3, 2), strides=[2, 1, 2], pads=[1, 0, 1] * 2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("options", [{"pads": [1] * 4}, {"strides": [2, 2]}, {"pads": [1] * 4, "group": 2}], ids=str)
def test_a_square_kernel_is_read_both_ways(options: dict[str, Any]) -> None:
    """Forward as it is, backward transposed, with the forward result in use: OpenVINO must not mix up the two."""
    weight = W(4, 4 // options.get("group", 1), 3, 3)
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], **options), helper.make_node("Mul", ["h", "h"], ["y"])]
    check_graph(graph_model(nodes, {"x": ["N", 4, 7, 7]}, {"w": weight}))
    nodes[0] = helper.make_node("ConvTranspose", ["x", "w"], ["h"], **options)
    check_graph(graph_model(nodes, {"x": ["N", 4, 7, 7]}, {"w": weight}))


def test_a_first_layer_goes_back_by_phases() -> None:
    """ResNet's, to three channels; with more channels, or taps that the phases add, a ConvTranspose is as fast."""
    kinds = [
        [n.op_type for n in Gradient(forward_model(case), "x0", str(case)).model.graph.node]
        for case in (
            conv((3, 15, 14), (4, 3, 7, 7), strides=[2, 2], pads=[3] * 4),
            conv((8, 15, 14), (4, 8, 7, 7), strides=[2, 2], pads=[3] * 4),
            conv((3, 15, 14), (4, 3, 3, 3), strides=[2, 2], pads=[1] * 4),
        )
    ]
    assert ["DepthToSpace" in one for one in kinds] == [True, False, False]
    assert ["ConvTranspose" in one for one in kinds] == [False, True, True]
