"""TFLite files that OpenVINO's reader needs written in another way: `tflite/readable.py`."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xai_exporters import Request
from xai_exporters.sources import load_source
from xai_exporters.sources.tflite.flatbuffer import Table
from xai_exporters.sources.tflite.model import TFLite
from xai_exporters.sources.tflite.readable import readable

from .test_tflite_file import saved
from .written import NET, agree, images, tflite


def renamed(names: dict[str, str]) -> Any:
    """An edit that gives tensors other names; "" takes a name away."""

    def edit(table: dict[int, Any]) -> None:
        name = names.get(table[3], table[3])
        table.pop(3) if not name else table.update({3: name})

    return edit


UNNAMED = dict.fromkeys(
    ("image", "filters", "conv_bias", "axes", "maps", "mean", "matrix", "linear_bias", "scores"), ""
)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (UNNAMED, {"tensor_4", "linear"}),
        ({"linear_bias": "filters"}, {"maps", "mean", "linear"}),
        ({"conv_bias": "matrix", "linear_bias": "matrix", "linear": ""}, {"maps", "mean", "tensor_8"}),
        ({"axes": "tensor_0", "image": "tensor_0_", "scores": "", "matrix": ""}, {"maps", "mean"}),
    ],
    ids=["unnamed", "shared", "both", "taken"],
)
def test_names_are_optional_and_not_unique(
    names: dict[str, str], shown: set[str], quantised: bool, tmp_path: Path
) -> None:
    """OpenVINO 2026.4 refuses tensors without names, and takes one constant for all that share its name."""
    data = tflite.network(NET, quantised=quantised, edit=renamed(names))
    network = load_source(Request(saved(tmp_path, data)))
    assert shown <= {node.name for node in network.proto.graph.node}
    if quantised:
        x = np.random.default_rng(2).integers(0, 256, (1, NET.height, NET.width, 3)).astype(np.uint8)
        agree(network, x, NET.scores((x.astype(np.float64) - 128) / 127.5) * 256 - 128, tolerance=8)
    else:
        agree(network, images(), NET.scores(images()))


@pytest.mark.parametrize("axis", [1, 3])
def test_an_axis_of_quantisation_that_a_bias_does_not_have(axis: int, tmp_path: Path) -> None:
    """As in files of TensorFlow 1.15 for microcontrollers: a bias states the axis of its convolution's weights."""

    def edit(table: dict[int, Any]) -> None:
        if table[3].endswith("bias"):
            [size] = table[0]
            scale = np.full(size, table[4][2][0], np.float32)
            table[4] = {2: scale, 3: np.zeros(size, np.int64), 6: tflite.i32(axis)}

    network = load_source(Request(saved(tmp_path, tflite.network(NET, quantised=True, edit=edit))))
    x = np.random.default_rng(2).integers(0, 256, (1, NET.height, NET.width, 3)).astype(np.uint8)
    agree(network, x, NET.scores((x.astype(np.float64) - 128) / 127.5) * 256 - 128, tolerance=8)


def test_an_axis_that_weights_share_with_a_bias() -> None:
    """The weights have this axis: to write another one would scale them by other channels."""

    def edit(table: dict[int, Any]) -> None:
        if 4 in table:
            table[4] = {**table[4], 6: tflite.i32(3 if len(table[0]) == 4 else 0)}

    data = bytearray(tflite.network(NET, quantised=True, edit=edit))
    quantised = {}
    for table in next(Table.root(bytes(data)).tables(2)).tables(0):
        own = table.table(4)
        if own is not None:
            quantised[len(table.numbers(0, "<i"))] = (table.place(4) or 0, own)
    [(first, _), (last, kept)] = sorted((quantised[4], quantised[1]), key=lambda one: one[1].place(6) or 0)
    shared = last + struct.unpack_from("<I", data, last)[0]
    struct.pack_into("<I", data, first, shared - first)  # offsets point forward
    struct.pack_into("<i", data, kept.place(6) or 0, 3)
    assert readable(bytes(data)) == data


def test_what_readable_leaves_alone() -> None:
    data = tflite.network(NET, quantised=True)
    assert readable(data) is data
    once = readable(tflite.network(NET, quantised=True, edit=renamed(UNNAMED)))
    assert readable(once) is once
    assert TFLite(once).given() == ["tensor_4", "tensor_5", "linear", "tensor_9"]
