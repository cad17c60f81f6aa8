"""What no client should send, drawn by hypothesis and by scripts/load: never 5xx, one line each."""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from ..conftest import Bundles
from .conftest import METHODS, Running

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from load.garbage import Garbage  # noqa: E402

WORDS = [
    "instances",
    "parameters",
    "image",
    "b64",
    "target",
    "inputs",
    "name",
    "shape",
    "datatype",
    "data",
    "explain",
    "where",
    "like",
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(string.printable, max_size=8)
    | st.sampled_from(WORDS)
)
TREES = st.recursive(
    LEAVES, lambda t: st.lists(t, max_size=4) | st.dictionaries(st.sampled_from(WORDS), t, max_size=4), max_leaves=12
)
V1 = st.fixed_dictionaries({"instances": st.lists(TREES, max_size=3)}, optional={"parameters": TREES})
TENSORS = st.fixed_dictionaries(
    {
        "name": st.just("image"),
        "shape": TREES,
        "datatype": st.sampled_from(["FP32", "UINT8", "BYTES", "x"]),
        "data": TREES,
    }
)
V2 = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2)}, optional={"parameters": TREES, "outputs": TREES, "id": TREES}
)
BODIES = st.one_of(
    st.tuples(st.just("v1/models/net:explain"), V1 | TREES), st.tuples(st.just("v2/models/net/infer"), V2 | TREES)
)


@pytest.fixture(scope="module")
def client(bundles: Bundles) -> Any:
    from xai_deploy.serve import Limits

    running = Running(bundles("residual", gradients=True).path, "onnxruntime", Limits(), METHODS)
    running.service.models.load("net")
    yield running.client
    running.service.close()


def check(client: TestClient, place: str, body: bytes) -> int:
    reply = client.post(f"/{place.lstrip('/')}", content=body)
    assert reply.status_code < 500, (place, body[:500], reply.text)
    if reply.status_code != 200:
        assert list(reply.json()) == ["error"]
        assert "\n" not in reply.json()["error"]
    return reply.status_code


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(BODIES)
def test_trees(client: TestClient, drawn: tuple[str, Any]) -> None:
    check(client, drawn[0], json.dumps(drawn[1]).encode())


def test_the_load_scripts_garbage(client: TestClient) -> None:
    """A part of what scripts/load_serve --garbage sends; some of it is right by chance, most is not."""
    garbage = Garbage("/v1/models/net:predict", seed=3)
    statuses = [check(client, *garbage.draw()) for _ in range(400)]
    assert 0 < statuses.count(200) < 100
