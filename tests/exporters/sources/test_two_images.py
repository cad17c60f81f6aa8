"""Networks of two images from files of TensorFlow, TFLite and PaddlePaddle: scores and Grad-CAM against the formula in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xai_exporters import Request, export

from xai_deploy import Explainer

from .written import NET, images, paddle, tensorflow, tflite


def frozen(folder: Path) -> Path:
    (folder / "net.pb").write_bytes(tensorflow.graph(NET, pair=True))
    return folder / "net.pb"


def saved_model(folder: Path) -> Path:
    return Path(tensorflow.save(NET, folder / "net", pair=True))


def lite(folder: Path) -> Path:
    (folder / "net.tflite").write_bytes(tflite.network(NET, batch=-1, pair=True))
    return folder / "net.tflite"


def program(folder: Path) -> Path:
    return Path(paddle.save(NET, folder / "net", pair=True))


@pytest.mark.parametrize("write", [frozen, saved_model, lite, program])
def test_grad_cam(write: Callable[[Path], Path], tmp_path: Path) -> None:
    done = export(Request(write(tmp_path), output_path=tmp_path / "net.xai", preprocess="none", roles=("gradient",)))
    assert done.verified.framework is not None
    assert done.verified.framework < 1e-4  # OpenVINO ran the file itself with both images
    x, other = images(3), images(6)[3:]
    maps = NET.maps(x)
    channels = NET.height * NET.width
    want = np.maximum(maps @ NET.matrix[:, 2] / channels, 0)
    manifest = Explainer(done.path).bundle.manifest
    first, second = (
        (x, other) if manifest.input.channel_axis == 3 else (x.transpose(0, 3, 1, 2), other.transpose(0, 3, 1, 2))
    )
    name = next(image.name for image in manifest.further.images)
    assert name.startswith("other")
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend)
        for rows in (slice(1), slice(3)):
            e = explainer.explain(first[rows], "grad-cam", 2, inputs={name: second[rows]})
            assert e.probabilities is not None
            np.testing.assert_allclose(e.probabilities, NET.scores(x[rows], other[rows]), atol=1e-5)
            np.testing.assert_allclose(e.raw, want[rows], atol=1e-5)
