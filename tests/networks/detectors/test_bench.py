"""xai-bench of detectors: a box that is found first is explained, as often as asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from xai_deploy import Explainer
from xai_deploy.benchmark.jobs import Bench, Job, Settings
from xai_deploy.benchmark.report import benchmark
from xai_deploy.errors import NotPredictedError

from .conftest import Made

Get = Callable[[str], Made]


@pytest.mark.parametrize("name", ["yolov8", "boxes-scores"])
def test_methods_of_a_detector(made: Get, name: str) -> None:
    report = benchmark(
        [made(name).bundle], ["layer-cam", "hires-cam"], batches=[1, 3], targets=[1, 2], runs=1, warmup=1, memory=False
    )
    assert report.target == "predicted"
    assert {one.backend for one in report.results} >= {"onnxruntime", "openvino"}
    measured = [(one.method, one.batch, one.targets) for one in report.results if one.backend == "openvino"]
    for batch in (1, 3):
        for method in ("layer-cam", "hires-cam"):
            assert {(method, batch, 1), (method, batch, 2)} <= set(measured)


def test_noise_has_boxes(made: Get) -> None:
    """As many rows as a photo has count; the first box is the best row of all."""
    bundle = str(made("yolov8").bundle)
    bench = Bench("onnxruntime", Settings())
    explained: Any = bench.call(Job(bundle, "onnxruntime", 3, "layer-cam", (), 1))()
    [e] = explained
    assert 0 < len(e.detections[0]) <= 20
    assert e.rows[0] == e.rows[1] == e.rows[2] == (e.detections[0][0].row,)
    shares = e.detections[0][0].score
    best = Explainer(bundle, "onnxruntime", detections=made("yolov8").explainers[0].limits)
    assert shares == pytest.approx(best.explain(bench._batch(bundle, 1), "layer-cam").detections[0][0].score)
    with pytest.raises(NotPredictedError, match=r"box 20: this image has \d+, numbers 0 to \d+"):
        bench.call(Job(bundle, "onnxruntime", 1, "layer-cam", (), 21))()
