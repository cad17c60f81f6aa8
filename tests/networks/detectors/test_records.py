"""Records of detectors: what was detected, and which detection was explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from xai_deploy.records import Recorder, records, verify

from .conftest import Made


def test_detections(made: Callable[[str], Made], tmp_path: Path) -> None:
    own = made("yolov8")
    explainer, x = own.explainers[0], own.images[:2]
    explanation = explainer.explain(x, "layer-cam", "box 2")
    with Recorder(tmp_path / "r") as recorder:
        recorder.explained(explainer, explanation, list(x), "box 2")
        recorder.explained(explainer, explainer.explain(x[:1], "layer-cam"), list(x[:1]))
    first, second, free = [record for _, record in records(tmp_path / "r")]
    for record, found in zip((first, second), explanation.detections, strict=True):
        best = found[:5]
        assert [one.index for one in record.prediction] == [one.index for one in best]
        assert [one.probability for one in record.prediction] == pytest.approx([one.score for one in best])
        assert [one.box for one in record.prediction] == [pytest.approx(one.box) for one in best]
        assert record.target.index == found[2].index
        assert (record.target.title or "").startswith("box 2 (")
        assert (record.target.asked, record.target.chosen_by) == ("box 2", "caller")
    assert (free.target.asked, free.target.chosen_by) == (None, "network")
    assert verify(tmp_path / "r").faults == []
