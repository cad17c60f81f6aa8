"""What a refused request held is free as soon as its answer is sent, without a garbage collection."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from xai_deploy.serve.asked import Asked
from xai_deploy.serve.engine import Job
from xai_deploy.serve.refusals import Refusal

from .. import tiny
from .conftest import Start
from .test_v1 import X
from .test_v2 import tensor

ONE = X[0].tolist()
LARGE = (np.sign(X[0]) * 3e38).tolist()  # the network overflows: the job fails
PLACES: list[tuple[str, Any, int]] = [
    ("v1/models/net:explain", {"instances": [ONE], "parameters": {"target": "zebra"}}, 400),
    ("v1/models/net:explain", {"instances": [LARGE]}, 422),
    ("v1/models/net:predict", {"instances": [ONE] * 17}, 413),
    ("v1/models/net:explain", {"instances": [ONE], "parameters": {"timeout_ms": 1e-3}}, 400),
    ("v2/models/net/infer", {"inputs": [tensor(X)], "outputs": [{"name": "b"}]}, 400),
    ("v1/models/net:explain", b"{" + b" " * 3000, 413),
]


def left(*types: type) -> list[Any]:
    """The objects of these types that are still there."""
    return [one for one in gc.get_objects() if isinstance(one, types)]


@pytest.mark.parametrize(
    ("place", "body", "status"), PLACES, ids=["target", "job", "instances", "late", "outputs", "body"]
)
def test_refused_requests_do_not_pile_up(start: Start, place: str, body: Any, status: int) -> None:
    running = start(body=2000 if isinstance(body, bytes) else 1 << 20)
    running.refused(status, body, place)  # the first one imports
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            running.refused(status, body, place)
        assert (
            len(left(Job, Asked, Refusal)) <= 3
        )  # of the last request, whose batch the engine's thread may still hold
    finally:
        gc.enable()


def test_the_maps_of_many_targets_count(start: Start) -> None:
    """As many as the answer holds: images x targets, each of the input's size in float32, 16 bytes a number as text."""
    images, targets = 3, 4
    own, maps = images * X[0].nbytes, images * targets * tiny.HEIGHT * tiny.WIDTH * 4
    body: Any = {"instances": X.tolist(), "parameters": {"target": f"top{targets}", "method": "grad-cam"}}
    start(held=own + maps).ask("net:explain", body)
    line = start(held=own + maps - 1).refused(413, body)
    assert "MiB are allowed for both; send fewer images, or ask for fewer targets" in line
    body["parameters"]["map"] = "heatmap"
    start(held=own + maps).refused(413, body)
    start(held=own + 4 * maps).ask("net:explain", body)
