"""The metrics of the set `trusted` that run the network: Quantus 0.6.0's figures on the same draws (`quantus_peer.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from xai_deploy.evaluation.metrics import create

from . import linear, peers
from .linear import case

BACKENDS = ["onnxruntime", "openvino"]
CLOSE = 2e-6  # float32
SAMPLES: dict[str, object] = {"samples": peers.SQUARES, "patch": 0.5}
FIGURES: list[tuple[str, dict[str, object], str, str, float]] = [
    ("srg", {"steps": peers.STEPS_OF_TWO}, "srg", "PixelFlipping, LIF - MIF", CLOSE),
    ("monotonicity", {"steps": peers.STEPS_OF_FOUR}, "monotonicity", "Monotonicity", 0),
    ("monotonicity", {"steps": peers.STEPS_OF_FOUR}, "monotonicity-share", "Monotonicity, steps", 1e-12),
    ("infidelity", SAMPLES, "infidelity", "Infidelity, least", CLOSE),
    ("infidelity", {**SAMPLES, "rescale": False}, "infidelity", "Infidelity", 1e-5),
    ("sensitivity-n", {"samples": peers.SETS, "sizes": peers.SIZES}, "sensitivity-n", "SensitivityN", 2e-5),
    (
        "road",
        {"noise": peers.ROAD_NOISE},
        "road-most",
        "imputation, most",
        1e-4,
    ),  # conjugate gradients: 1e-5 of the range
    ("road", {"noise": peers.ROAD_NOISE}, "road-least", "imputation, least", 1e-4),
    ("max-sensitivity", {"samples": peers.NOISES, "radius": peers.RADIUS}, "max-sensitivity", "MaxSensitivity", CLOSE),
]
MOVED = "max-sensitivity"  # draws its noise in the order of the layout


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_quantus(tmp_path: Path, backend: str, layout: str) -> None:
    explainer = linear.network(
        tmp_path / "net",
        peers.weight(),
        peers.BIAS,
        backend=backend,
        layout=layout,  # type: ignore[arg-type]
        mean=peers.MEAN,
        std=peers.STD,
    )
    x = peers.inputs() if layout == "NCHW" else peers.inputs().transpose(0, 2, 3, 1)
    found = case(explainer, x, peers.TARGET, peers.maps(peers.inputs(), peers.TARGET))
    for metric, options, column, theirs, close in FIGURES:
        if metric != MOVED or layout == "NCHW":
            got = create(metric, options).measure(found)[column]
            assert got == pytest.approx(peers.QUANTUS[theirs], abs=close), theirs


def test_emprt(tmp_path: Path) -> None:
    """The random network is the one whose class 0, 2, 2 is the trained one's 1, 0, 0."""
    weight = peers.weight()
    networks = [linear.network(tmp_path / str(i), w) for i, w in enumerate((weight, weight[[1, 1, 0]]))]
    x = peers.inputs()
    found = case(networks[0], x, peers.TARGET, peers.maps(x, peers.TARGET), randomised=networks[1:])
    got = create("emprt", {"bins": peers.BINS}).measure(found)["emprt"]
    assert got == pytest.approx(peers.QUANTUS["EfficientMPRT"], abs=1e-9)
