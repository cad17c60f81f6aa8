"""V1: answers, their encodings, what may be asked, and Vertex's form."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer, write_image
from xai_deploy.answer import answer, origin, prediction
from xai_deploy.errors import BackendError, RecordsError
from xai_deploy.records import Recorder, records

from .. import tiny
from ..methods.test_gradient_methods import gradient
from .conftest import Start

X = tiny.inputs("residual", 3)


def png(tmp_path: Any, height: int = 33, width: int = 47) -> tuple[bytes, np.ndarray[Any, Any]]:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    write_image(tmp_path / "photo.png", pixels)
    return (tmp_path / "photo.png").read_bytes(), pixels


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


@pytest.mark.parametrize("count", [1, 3])
def test_explains_as_torch_does(start: Start, backend: str, count: int) -> None:
    """Grad-CAM from live torch: L = ReLU(sum_k mean(g_k) A_k). Each instance has a target of its own."""
    running = start("residual", backend)
    targets = [3, 1, 0][:count]
    told = running.explain(
        [{"image": x.tolist(), "target": t} for x, t in zip(X, targets, strict=False)], method="grad-cam"
    )
    net = tiny.Tiny(running.path, "residual")
    for i, (one, target) in enumerate(zip(told["explanations"], targets, strict=True)):
        a, g = gradient(net, X[i : i + 1], np.eye(tiny.CLASSES)[[target]])
        expected = np.maximum((g.mean(axis=(2, 3), keepdims=True) * a).sum(axis=1), 0)[0]
        [shown] = one["explanations"]
        assert (shown["target"], shown["label"], shown["method"]) == (target, tiny.LABELS[target], "grad-cam")
        assert (shown["map"]["kind"], shown["map"]["shape"]) == ("raw", list(expected.shape))
        np.testing.assert_allclose(shown["map"]["values"], expected, rtol=0, atol=1e-5)


def test_the_prediction_comes_with_it(start: Start) -> None:
    """As `answer.prediction` lists it, and as :predict answers."""
    running = start()
    explainer = Explainer(running.path, "onnxruntime")
    logits = explainer.predict(X)
    told = running.explain([x.tolist() for x in X], encoding="none")
    predicted = running.ask("net:predict", {"instances": [x.tolist() for x in X]})
    for i, one in enumerate(told["explanations"]):
        expected = prediction(explainer, logits[i])
        assert one["explanations"][0]["map"] is None
        for given in (one["prediction"], predicted["predictions"][i]["prediction"]):
            assert [entry["class"] for entry in given] == [entry["class"] for entry in expected]
            np.testing.assert_allclose([e["logit"] for e in given], [e["logit"] for e in expected], atol=1e-5)
    assert (
        told["model"]
        == predicted["model"]
        == {
            "name": "net",
            "version": explainer.bundle.manifest.digest.removeprefix("sha256:")[:12],
            **origin(explainer),
        }
    )


def test_encodings(start: Start, tmp_path: Any) -> None:
    """The same map as list, as npy and as picture; an image file as the body, with the parameters in the address."""
    running = start()
    file, pixels = png(tmp_path)
    own = Explainer(running.path, "onnxruntime").explain(pixels, "grad-cam", "beagle")
    shown = {}
    for kind in ("raw", "heatmap"):
        for encoding in ("list", "npy"):
            reply = running.client.post(
                f"/v1/models/net:explain?method=grad-cam&target=beagle&map={kind}&encoding={encoding}",
                content=file,
                headers={"content-type": "application/x-www-form-urlencoded"},  # curl's default
            )
            assert reply.status_code == 200, reply.text
            shown[kind, encoding] = reply.json()["explanations"][0]["explanations"][0]["map"]
    for kind, expected in (("raw", own.raw[0]), ("heatmap", own.heatmap[0])):
        np.testing.assert_allclose(shown[kind, "list"]["values"], expected, atol=1e-6)
        loaded = np.load(io.BytesIO(base64.b64decode(shown[kind, "npy"]["b64"])))
        assert loaded.dtype == np.float32
        np.testing.assert_allclose(loaded, expected, atol=1e-6)
    told = running.explain([b64(file)], method="grad-cam", target="beagle", encoding="png")
    picture = base64.b64decode(told["explanations"][0]["explanations"][0]["map"]["b64"])
    (tmp_path / "map.png").write_bytes(picture)
    from xai_deploy import read_image

    assert np.abs(read_image(tmp_path / "map.png").astype(int) - own.overlay(pixels)[0]).max() <= 1


@pytest.mark.parametrize(
    ("target", "titles"),
    [
        (None, 1),
        (2, 1),
        ("2", 1),
        ("beagle", 1),
        ("tabby cat vs beagle", 1),
        ("not beagle", 1),
        ("top3", 3),
        ([0.5, -1, 0.25, 0, 2], 1),
        ({"target": 0, "versus": "beagle"}, 1),
        ({"not": 2}, 1),
        ({"class": 1}, 1),
    ],
)
def test_targets_of_a_classifier(start: Start, target: Any, titles: int) -> None:
    """Every way to write a target, against the Explainer's own."""
    from xai_deploy import Contrast, Not

    running = start()
    told = running.explain([X[0].tolist()], method="grad-cam", target=target)
    python: Any = 2 if target == "2" else target
    if isinstance(target, list):
        python = np.array(target)
    if isinstance(target, dict):
        python = Contrast(0, "beagle") if "versus" in target else Not(2) if "not" in target else 1
    explainer = Explainer(running.path, "onnxruntime")
    own = explainer.explain_many(X[:1], ["grad-cam"], [python])
    shown = told["explanations"][0]["explanations"]
    assert len(shown) == len(own) == titles
    for given, one in zip(shown, own, strict=True):
        expected = answer(explainer, one).as_json()
        assert {key: given[key] for key in ("target", "versus", "sign", "label", "title")} == {
            key: expected[key] for key in ("target", "versus", "sign", "label", "title")
        }
        np.testing.assert_allclose(given["map"]["values"], one.raw[0], atol=1e-6)


def test_vertex(start: Start) -> None:
    """The names of Vertex's response."""
    running = start()
    told = running.explain([X[0].tolist(), X[1].tolist()], method="lime", target=1, form="vertex")
    explainer = Explainer(running.path, "onnxruntime")
    own = explainer.explain(X[:2], "lime", 1, samples=20)
    assert set(told) == {"explanations", "predictions", "deployedModelId", "model"}
    assert told["deployedModelId"] == explainer.bundle.manifest.digest
    for i, one in enumerate(told["explanations"]):
        [attribution] = one["attributions"]
        assert attribution["outputIndex"] == [1]
        assert attribution["outputDisplayName"] == "tiger cat"
        np.testing.assert_allclose(attribution["featureAttributions"]["image"], own.raw[i], atol=1e-5)
        assert own.score is not None
        assert attribution["instanceOutputValue"] == pytest.approx(float(own.score[i]), abs=1e-5)
        assert attribution["approximationError"] == pytest.approx(own.diagnostics["relative_error"][i], rel=1e-3)


def test_vertex_of_integrated_gradients(start: Start) -> None:
    """Vertex's own identity: the attributions sum to instanceOutputValue - baselineOutputValue, but for approximationError."""
    running = start()
    told = running.explain(
        [X[0].tolist()], method="integrated-gradients", target=1, form="vertex", options={"steps": 40}
    )
    [one] = told["explanations"][0]["attributions"]
    change = one["instanceOutputValue"] - one["baselineOutputValue"]
    gap = abs(np.sum(one["featureAttributions"]["image"]) - change) / abs(change)
    assert gap == pytest.approx(one["approximationError"], abs=1e-4)
    assert gap < 0.05


def test_records(start: Start, tmp_path: Path) -> None:
    """What `on_answer` gets is what a Recorder keeps: one record for each explanation, with the digest of the bytes sent."""
    running = start()
    file, _ = png(tmp_path)
    reply = running.client.post("/v1/models/net:explain?target=top2", content=file, headers={"x-request-id": "abc"})
    assert reply.headers["x-request-id"] == "abc"
    running.explain([{"image": X[0].tolist(), "target": "not beagle"}])
    with Recorder(tmp_path / "records") as recorder:
        for one in running.records:
            recorder.answered(
                one.explainer,
                one.answer,
                one.prediction,
                one.image,
                one.asked,
                beside=one.beside,
                fields={"request": one.request},
            )
    kept = [record for _, record in records(tmp_path / "records")]
    shown = reply.json()["explanations"][0]["explanations"]
    assert [record.target.index for record in kept[:2]] == [one["target"] for one in shown]
    assert [record.input.sha256 for record in kept[:2]] == [hashlib.sha256(file).hexdigest()] * 2
    assert [record.fields["request"] for record in kept[:2]] == ["abc"] * 2
    assert [record.target.chosen_by for record in kept] == ["network", "network", "caller"]
    assert (kept[2].input.of, kept[2].target.sign) == ("array", -1)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RecordsError("/srv/records: no space left"), "the answer can't be recorded, so it is not sent"),
        (BackendError("/srv/net.xai/head.onnx: failed"), "unexpected BackendError"),
        (OSError(28, "No space left", "/srv/records"), "unexpected OSError"),
    ],
)
def test_an_answer_that_can_not_be_recorded_is_not_sent(
    error: Exception, line: str, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says where and why; the client learns no path of the server."""
    running = start()

    def full(served: object) -> None:
        raise error

    running.service._on_answer = full
    told = running.refused(500, {"instances": [X[0].tolist()]})
    assert line in told
    assert "/srv" not in told
    assert "/srv" in caplog.text
    assert running.ask("net:predict", {"instances": [X[0].tolist()]})
