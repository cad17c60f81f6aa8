"""The form at `/`, the OpenAPI document, and what both say of the models."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import jsonschema
import pytest

from .. import tiny
from .conftest import METHODS, Start
from .test_v2 import tensor

X = tiny.inputs("residual", 1)


def test_form(start: Start) -> None:
    """It lists what is served, and runs its own script and style alone: a browser compares these digests."""
    reply = start().client.get("/")
    listed = re.search(r'<script type="application/json" id="models">(.*?)</script>', reply.text)
    assert listed is not None
    assert json.loads(listed[1]) == {"net": list(METHODS)}
    policy = reply.headers["content-security-policy"]
    for tag in ("script", "style"):
        found = re.search(rf"<{tag}>(.*)</{tag}>", reply.text, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://|\bon[a-z]+=|style=", reply.text), (
        "nothing from elsewhere, nothing that the policy stops"
    )


def test_openapi_names_every_place(start: Start) -> None:
    running = start()
    document = running.client.get("/openapi.json").json()
    own = {route.path for route in running.client.app.routes}  # type: ignore[attr-defined]
    assert set(document["paths"]) == own - {"/", "/openapi.json"}
    for path, operations in document["paths"].items():
        [(method, operation)] = operations.items()
        parts = set(re.findall(r"\{(\w+)\}", path))
        assert parts == {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert (method == "post") == ("requestBody" in operation)
        assert {"200", "429", "503"} <= operation["responses"].keys()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/models/{name}:explain",
            {"instances": X.tolist(), "parameters": {"method": "lime", "options": {"samples": 9}}},
        ),
        ("/v1/models/{name}:explain", {"instances": [{"image": X[0].tolist(), "target": "cat vs dog"}]}),
        ("/v1/models/{name}:predict", {"instances": [{"b64": "AAAA"}], "parameters": {"timeout_ms": 5.5}}),
        (
            "/v2/models/{name}/infer",
            {"inputs": [tensor(X)], "outputs": [{"name": "raw_map"}], "parameters": {"explain": True}},
        ),
    ],
)
def test_the_schemas_take_what_the_server_takes(start: Start, path: str, body: dict[str, Any]) -> None:
    document = start().client.get("/openapi.json").json()
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(body, schema, cls=jsonschema.Draft202012Validator)
    faults: list[dict[str, Any]] = [{}, {"instances": []}, {"inputs": []}, {"instances": [3]}]
    for wrong in faults:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema, cls=jsonschema.Draft202012Validator)
