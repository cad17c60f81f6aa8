"""Layers that read signs: the export says that gradients pass them by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .. import onnx_nets as o
from ..running import HEAD_AND_TAIL, export_onnx


@pytest.mark.parametrize("kind", ["signs", "scaled signs", "signed roots", "none"])
def test_the_note(kind: str, tmp_path: Path) -> None:
    """Signs of a binary layer beside a skip; not the sign that a root gets back, whose gradient is the formula's."""
    b = o.Build()
    x = b("Relu", b.conv("image", 3, o.CHANNELS), name="layer")
    h = b("Sub", x, b.weight(np.float32(0.3)))
    if kind in ("signs", "scaled signs"):
        sign = b("Sign", h, name="decides")
        sign = (
            b("Pad", b("Mul", sign, b.weight(np.float32(0.5))), b.weight([0] * 8)) if kind == "scaled signs" else sign
        )
        x = b("Add", x, b.conv(sign, o.CHANNELS, o.CHANNELS))
    elif kind == "signed roots":
        x = b("Mul", b("Sign", h), b("Sqrt", b("Abs", h)))
        x = b.conv(x, o.CHANNELS, o.CHANNELS)
    else:
        x = b("Add", x, b.conv(h, o.CHANNELS, o.CHANNELS))
    done = export_onnx(tmp_path, b.model(b.linear(b.pooled(x), out="scores")), split="layer_out", roles=HEAD_AND_TAIL)
    told = [note for note in done.notes if "decides what a layer reads" in note]
    assert told == (
        [
            "node 'decides' (Sign) decides what a layer reads, so gradients and relevance pass it by: they are those of the other "
            "paths alone"
        ]
        if "signs" in kind
        else []
    )
