"""RNN, GRU and LSTM with the batch first: the same as with the steps first, which ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from .. import onnx_nets as o
from ..checks import close, onnxruntime
from ..running import export_onnx
from .test_fused import IMAGES, tokens, written

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def network(kind: str, batch_first: bool) -> onnx.ModelProto:
    """Over the tokens [N,20,8] of the image, from the weights' own first state, both directions."""
    b = o.Build()
    g, hidden = GATES[kind], 3
    x = tokens(b)

    def order(value: str, perm: list[int]) -> str:
        return value if batch_first else b("Transpose", value, perm=perm)

    state = b(
        "Unsqueeze",
        b("Slice", b("ReduceMean", x, b.weight([1]), keepdims=0), b.weight([0]), b.weight([3]), b.weight([1])),
        b.weight([1]),
    )
    state = order(b("Concat", state, b("Neg", state), axis=1), [1, 0, 2])
    given = [
        order(x, [1, 0, 2]),
        b.draw(2, g * hidden, 8),
        b.draw(2, g * hidden, hidden),
        b.draw(2, 2 * g * hidden),
        "",
        state,
    ]
    given += [state] if kind == "LSTM" else []
    outputs = ["every", "last", "cell"][: 3 if kind == "LSTM" else 2]
    further: dict[str, Any] = {"layout": 1} if batch_first else {}
    b.nodes.append(
        helper.make_node(kind, given, outputs, name="steps", hidden_size=hidden, direction="bidirectional", **further)
    )
    parts = [b("Flatten", order("every", [2, 0, 1, 3])), *(b("Flatten", order(y, [1, 0, 2])) for y in outputs[1:])]
    return b.model(
        b("MatMul", b("Concat", *parts, axis=1), b.draw(120 + 6 * len(outputs[1:]), 5)), ranks=None, ir_version=10
    )


@pytest.mark.parametrize("kind", GATES)
def test_batch_first(kind: str) -> None:
    want = onnxruntime(network(kind, False).SerializeToString(), {"image": IMAGES})
    got = onnxruntime(written(network(kind, True)).SerializeToString(), {"image": IMAGES})
    for ours, its in zip(got.values(), want.values(), strict=True):
        close(ours, its)


def test_it_is_exported(tmp_path: Path) -> None:
    """No runtime computes the file itself, which the export says."""
    done = export_onnx(tmp_path, network("GRU", True), split="patches_out")
    assert done.notes[0].startswith("ONNX Runtime does not compute GRU on a processor")
    assert {"gradient", "relevance"} <= done.manifest.graphs.keys()
