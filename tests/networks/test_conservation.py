"""Relevance passes every operator of torchvision's networks, is conserved where it has to be, and is the same on both runtimes.

Where no bias takes a share, no denominator is zero and nothing passes beside the cut, what arrives sums up to what started.
Depthwise convolutions under ReLUs and gated or attending networks lose some at zero denominators, or by their rules (softmax);
of these both runtimes have to give the same, to what the conditioning of their residual sums allows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from xai_exporters.cut.plan import plan_cut
from xai_exporters.cut.scores.logits import find_scores
from xai_exporters.cut.split import Parts, split
from xai_exporters.graph.measure import open_session
from xai_exporters.graph.writing import make_model, to_bytes
from xai_exporters.passes.clean import clean
from xai_exporters.relevance.composite import DEFAULT, composites, load_composite
from xai_exporters.relevance.graph import relevance_graph

from xai_deploy.format.bundle import RELEVANCE, SEED, TARGET

from . import drawn, gradients

# network -> image size, whether relevance is conserved at the last and the early stage
CASES = {
    "resnet18_narrow": (64, True, True),
    "squeezenet1_1": (48, True, True),
    "densenet_tiny": (64, True, False),
    "mobilenet_v3_tiny": (64, False, False),
    "shufflenet_tiny": (48, True, False),
    "convnext_tiniest": (48, False, False),
    "swin_tiny": (64, False, False),
    "vit_tiny": (64, False, False),
}
BESIDE = "test_gradients.py"  # each of its networks is exported once for both
ALSO = {"resnet18_narrow", "vit_tiny"}  # also by the other composites, from the early stage on


def opened(name: str, size: int) -> list[tuple[Parts, int]]:
    """Head and tail at the last and at an early stage, and the number of classes."""
    _, layers, proto, taps = gradients.exported(name, None, size)
    parts = []
    for layer, tap in zip(layers, taps, strict=True):
        graph = clean(proto, None)
        [target] = [v for v in graph.graph.outputs if v.name == tap]
        for value in [v for v in graph.graph.outputs if v.name in taps]:
            graph.graph.outputs.remove(value)
        while (producer := target.producer()) is not None and producer.op_type == "Identity":
            assert producer.inputs[0] is not None
            target = producer.inputs[0]
        logits = find_scores(graph, None)
        cut = plan_cut(graph, target, logits, graph.graph.outputs, layer)
        parts.append((split(graph, cut, logits), logits.classes))
    return parts


def on_both(model: bytes, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The relevance from ONNX Runtime and from OpenVINO."""
    session = open_session(model, "the relevance graph", optimise=True)
    names = {i.name for i in session.get_inputs()}
    first = session.run([RELEVANCE], {k: v for k, v in feeds.items() if k in names})[0]
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = {name for i in compiled.inputs for name in i.names}
    return [first, compiled({k: v for k, v in feeds.items() if k in names})[RELEVANCE].copy()]


@pytest.mark.parametrize("case", CASES)
def test_relevance_passes(case: str) -> None:
    size, *conserved = CASES[case]
    for early, ((parts, classes), keeps) in enumerate(zip(opened(case, size), conserved, strict=True)):
        head = open_session(to_bytes(make_model(parts.head)), "the head")
        outputs = [o.name for o in head.get_outputs()]
        feeds = dict(zip(outputs, head.run(outputs, {"image": drawn.images(2, size, 10).numpy()}), strict=True))
        feeds[TARGET], feeds[SEED] = np.array([1, -1]), np.zeros((2, classes), np.float32)
        for composite in composites() if case in ALSO and early else [DEFAULT]:
            model = to_bytes(make_model(relevance_graph(parts.tail, classes, load_composite(composite))))
            first, second = on_both(model, feeds)
            scale = np.abs(first).max()
            assert np.isfinite(first).all()
            assert scale > 0
            if keeps and composite == DEFAULT:
                np.testing.assert_allclose(first.sum(axis=(1, 2, 3)), 1, atol=1e-4)
            if keeps:
                assert np.abs(first - second).max() < 1e-3 * scale, composite
