"""V2 over REST: JSON and binary tensors; what is in the answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from xai_deploy import Explainer

from .. import tiny
from .conftest import Running, Start
from .test_v1 import X, png

LENGTH = "inference-header-content-length"


def tensor(x: np.ndarray[Any, Any], name: str = "image", datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": list(x.shape), "datatype": datatype, "data": x.ravel().tolist()}


def infer(running: Running, body: dict[str, Any]) -> dict[str, Any]:
    reply = running.client.post("/v2/models/net/infer", json=body)
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


def arrays(told: dict[str, Any]) -> dict[str, Any]:
    return {
        one["name"]: np.reshape(one["data"], one["shape"]) if one["datatype"] != "BYTES" else one["data"]
        for one in told["outputs"]
    }


def test_prediction_gives_the_networks_outputs(start: Start, backend: str) -> None:
    running = start("residual", backend)
    told = infer(running, {"id": "7", "inputs": [tensor(X)]})
    assert (told["id"], told["model_name"], [one["name"] for one in told["outputs"]]) == ("7", "net", ["scores"])
    logits = tiny.Tiny(running.path, "residual").tail(*tiny.Tiny(running.path, "residual").head(X)).detach().numpy()
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(arrays(told)["scores"], shares / shares.sum(axis=1, keepdims=True), atol=1e-5)


def test_explanation(start: Start) -> None:
    """Maps as `Explainer.explain` gives them; the facts as JSON; other outputs by name."""
    running = start()
    own = Explainer(running.path, "onnxruntime").explain(X, "grad-cam", 2)
    asked = {"inputs": [tensor(X)], "parameters": {"explain": True, "method": "grad-cam", "target": 2}}
    told = arrays(infer(running, asked))
    assert list(told) == ["scores", "saliency_map", "answer"]
    np.testing.assert_allclose(told["saliency_map"], own.heatmap, atol=1e-6)
    facts = [json.loads(text) for text in told["answer"]]
    assert [fact["label"] for fact in facts] == ["beagle"] * 3
    assert facts[0]["bundle"] == own.network.digest
    raw = arrays(infer(running, {**asked, "outputs": [{"name": "raw_map"}]}))
    assert list(raw) == ["raw_map"]
    np.testing.assert_allclose(raw["raw_map"], own.raw, atol=1e-6)


@pytest.mark.parametrize("binary", [False, True])
def test_image_files_and_pixels(start: Start, tmp_path: Any, binary: bool) -> None:
    """BYTES hold image files, in JSON as base64; UINT8 holds pixels. Both give what the Explainer gives for the pixels."""
    running = start()
    file, pixels = png(tmp_path)
    own = Explainer(running.path, "onnxruntime").explain(pixels, "grad-cam", 1)
    parameters = {"explain": True, "target": 1, "method": "grad-cam"}
    for shape, kind, data, raw in (
        ([1], "BYTES", [base64.b64encode(file).decode()], len(file).to_bytes(4, "little") + file),
        ([1, *pixels.shape], "UINT8", pixels.ravel().tolist(), pixels.tobytes()),
    ):
        one: dict[str, Any] = {"name": "image", "shape": shape, "datatype": kind}
        one |= {"parameters": {"binary_data_size": len(raw)}} if binary else {"data": data}
        head = json.dumps({"inputs": [one], "parameters": {**parameters, "binary_data_output": binary}}).encode()
        reply = running.client.post(
            "/v2/models/net/infer", content=head + raw if binary else head, headers={LENGTH: str(len(head))}
        )
        assert reply.status_code == 200, reply.text
        size = int(reply.headers[LENGTH]) if binary else len(reply.content)
        told = json.loads(reply.content[:size])
        if not binary:
            np.testing.assert_allclose(arrays(told)["saliency_map"], own.heatmap, atol=1e-6)
            continue
        at, found = size, {}
        for output in told["outputs"]:
            length = output["parameters"]["binary_data_size"]
            found[output["name"]] = reply.content[at : at + length]
            at += length
        assert at == len(reply.content)
        values = np.frombuffer(found["saliency_map"], "<f4").reshape(own.heatmap.shape)
        np.testing.assert_allclose(values, own.heatmap, atol=1e-6)
        assert json.loads(found["answer"][4:])["target"] == 1


def test_metadata(start: Start) -> None:
    running = start()
    told = running.client.get("/v2/models/net").json()
    [image] = told["inputs"]
    assert image == {"name": "image", "datatype": "FP32", "shape": [-1, 3, tiny.HEIGHT, tiny.WIDTH]}
    assert [one["name"] for one in told["outputs"]] == ["scores", "saliency_map", "answer"]
    number = told["versions"][0]
    for place in (f"net/versions/{number}", "net", f"net/versions/{number}/ready", "net/ready"):
        assert running.client.get(f"/v2/models/{place}").status_code == 200
    assert running.client.get("/v2/models/net/versions/abc").json() == {
        "error": f"net: no version 'abc'; this server has {number}"
    }
    assert running.client.get("/v2/health/live").json() == {"live": True}
    assert running.client.get("/v1/models").json() == {"models": ["net"]}
    assert running.client.get("/v1/models/net").json() == {"name": "net", "ready": True}
    assert running.client.get("/v2").json()["name"] == "xai-serve"
