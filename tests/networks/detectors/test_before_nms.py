"""A file whose suppression is inside: what it chooses from is explained, as in the network without it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from xai_exporters import Request, export
from xai_exporters.sources import load_source

from xai_deploy import DetectionLimits, Explainer
from xai_deploy.foundation import runtimes

from .conftest import ALL, Made
from .suppressing import with_suppression
from .test_nms_inside import live

FORMS = ("table", "yolov7", "batch", "tensorflow")


def saved(own: Made, form: str, folder: Path) -> Path:
    """The detector with its suppression, as `folder/net.xml`."""
    ov = runtimes.openvino()
    onnx.save(with_suppression(own.source, form), folder / "net.onnx")
    ov.save_model(ov.convert_model(folder / "net.onnx"), folder / "net.xml", compress_to_fp16=False)
    return folder / "net.xml"


@pytest.mark.parametrize("form", FORMS)
def test_what_it_chooses_from(form: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    """Its rows are those of the file without a suppression, by OpenVINO's run of the IR and by ours."""
    own = made("yolov8")
    network = load_source(Request(saved(own, form, tmp_path)))
    session = runtimes.onnxruntime().InferenceSession(str(own.source), providers=["CPUExecutionProvider"])
    [want] = session.run(None, {session.get_inputs()[0].name: own.images[:1]})
    assert network.reference is not None
    [rows] = [value for value in network.reference(own.images[:1]).values() if value.shape == want.shape]
    np.testing.assert_allclose(rows, want, rtol=1e-4, atol=1e-4)
    if form == "table":
        done = export(Request(tmp_path / "net.xml", output_path=tmp_path / "net.xai", preprocess="none"))
        assert done.manifest.batch == "any"
        assert any("NonMaxSuppression chose (output0) is left out" in note for note in done.notes)
        for backend, other in zip(("onnxruntime", "openvino"), own.explainers, strict=True):
            explainer = Explainer(done.path, backend, detections=ALL)
            for method in ("layer-cam", "reciprocam"):
                got, wanted = (one.explain(own.images, method, "box 1") for one in (explainer, other))
                assert [one.index for one in got.detections[0]] == [one.index for one in wanted.detections[0]]
                np.testing.assert_allclose(got.raw, wanted.raw, rtol=0, atol=1e-4 * np.abs(wanted.raw).max())


@pytest.mark.parametrize("form", FORMS[:3])
def test_its_own_list(form: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    """`--decoder nms-inside` reads the list that the file itself gives."""
    own = made("yolov8")
    path = saved(own, form, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = export(Request(path, output_path=tmp_path / "net.xai", preprocess="none", decoder="nms-inside"))
    assert any("this list is not compared with OpenVINO" in note for note in done.notes)
    for backend in ("onnxruntime", "openvino"):
        explainer: Any = Explainer(tmp_path / "net.xai", backend, detections=DetectionLimits(score=0.0))
        for image, x in zip(
            explainer.explain(own.images, "rise", "box 0", masks=2).detections, own.images, strict=True
        ):
            wanted = live(own, x)
            assert [one.index for one in image] == [index for _, _, index in wanted]
            np.testing.assert_allclose([one.box for one in image], [box for box, _, _ in wanted], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_the_advice_for_gradients(form: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    """Of ONNX the list is read, and the note names the tensor before it: its maps are those of the file without a list."""
    own = made("yolov8")
    onnx.save(with_suppression(own.source, form), tmp_path / "net.onnx")
    fields: dict[str, Any] = {"output_path": tmp_path / "net.xai", "preprocess": "none", "overwrite": True}
    done = export(Request(tmp_path / "net.onnx", **fields))
    [name] = [found[1] for note in done.notes if (found := re.search(r"--output (\S+) --decoder NAME$", note))]
    export(Request(tmp_path / "net.onnx", output=name, decoder="yolov8", **fields))
    explainer = Explainer(tmp_path / "net.xai", "onnxruntime", detections=ALL)
    got, wanted = (one.explain(own.images, "layer-cam", "box 1") for one in (explainer, own.explainers[0]))
    np.testing.assert_allclose(got.raw, wanted.raw, rtol=0, atol=1e-4 * np.abs(wanted.raw).max())
