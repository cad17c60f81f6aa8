"""Networks that give the number of the best class beside its scores: the scores are explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from xai_exporters.errors import RequestError

from xai_deploy import Explainer

from .. import onnx_nets as o
from ..checks import reference
from ..running import export_onnx

Net = Callable[[o.Build], tuple[str, ...]]


def probabilities(b: o.Build) -> tuple[str, ...]:
    """Of the logits, and of the ArgMax of the logits."""
    logits = b.linear(b.pooled(b.features()))
    best = b("ArgMax", logits, axis=1, keepdims=0, out="best")
    return b("Softmax", logits, out="scores"), best


def first(b: o.Build) -> tuple[str, ...]:
    """The class is the first output, as int32 [N], of the probabilities, which lie in a column."""
    scores = b("Softmax", b.linear(b.pooled(b.features())), axis=1)
    best = b(
        "Cast",
        b("Squeeze", b("ArgMax", scores, axis=1, keepdims=1), b.weight(np.array([1]))),
        to=onnx.TensorProto.INT32,
        out="best",
    )
    return best, b("Identity", scores, out="scores")


def dense(b: o.Build) -> tuple[str, ...]:
    """A segmenter's."""
    scores = b("Softmax", b.conv(b.features(), 6, 5, 1), axis=1, out="scores")
    return scores, b("ArgMax", scores, axis=1, keepdims=0, out="best")


def features(b: o.Build) -> tuple[str, ...]:
    """The other output are features, of which the logits are made."""
    pooled = b("Identity", b.pooled(b.features()), out="features")
    return pooled, b("ArgMax", b.linear(pooled), axis=1, keepdims=0, out="best")


def three(b: o.Build) -> tuple[str, ...]:
    """Two heads."""
    pooled = b.pooled(b.features())
    scores = b.linear(pooled, out="scores")
    return scores, b.linear(pooled, out="others"), b("ArgMax", scores, axis=1, keepdims=0, out="best")


def model(net: Net) -> onnx.ModelProto:
    b = o.Build(seed=7)
    kind = onnx.TensorProto.INT32 if net is first else onnx.TensorProto.INT64
    return b.model(*net(b), ranks={"best": (kind, ("n", 8, 10) if net is dense else ("n",))})


@pytest.mark.parametrize("net", [probabilities, first, dense])
def test_scores_are_explained(net: Net, tmp_path: Path) -> None:
    """The export asked for --output."""
    source = model(net)
    done = export_onnx(tmp_path, source)
    assert "'scores' is explained; 'best' tells the best class." in done.notes
    x = np.random.default_rng(1).random((2, *done.manifest.input.image_shape)).astype(np.float32)
    want = reference(source, {"image": x})["best"].reshape(2, -1)
    for backend in ("onnxruntime", "openvino"):
        found = Explainer(done.path, backend).explain(x, "reciprocam")
        for i in range(2):  # a segmenter's is the class that fills the most of the image
            assert found.target[i] == np.bincount(want[i]).argmax()


@pytest.mark.parametrize(("net", "names"), [(features, "features, best"), (three, "scores, others, best")])
def test_what_the_class_is_not_chosen_from(net: Net, names: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"several outputs; choose one with --output: {names}"):
        export_onnx(tmp_path, model(net))
