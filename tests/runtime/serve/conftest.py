"""A server's parts in this process: its service, and a client that speaks to the application without a socket."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from starlette.testclient import TestClient

from xai_deploy import Explainer
from xai_deploy.serve import Limits, Models, Served, Service
from xai_deploy.serve.app import make_app

from ..conftest import Bundles
from .program import Program

Start: TypeAlias = Callable[..., "Running"]

METHODS: dict[str, dict[str, str]] = {
    "grad-cam": {},
    "reciprocam": {},
    "integrated-gradients": {"steps": "4"},
    "lime": {"samples": "20"},
}


class Running:
    """A service with its client.

    Attributes:
        service: The service.
        client: Sends requests to it.
        path: The bundle served as `net`.
        records: What `on_answer` was given.
    """

    def __init__(
        self, path: Path, backend: str, limits: Limits, methods: dict[str, dict[str, str]], **opened: Any
    ) -> None:
        self.path, self.records = path, list[Served]()
        models = Models({"net": path}, lambda folder: Explainer(folder, backend, **opened), lambda _: methods, limits)
        self.service = Service(models, limits, self.records.append)
        self.client = TestClient(make_app(self.service), raise_server_exceptions=False)

    def explain(self, instances: list[Any], **parameters: Any) -> Any:
        """V1's answer to a request for explanations, which has to succeed."""
        return self.ask("net:explain", {"instances": instances, "parameters": parameters})

    def ask(self, place: str, body: Any) -> Any:
        """V1's answer, which has to succeed."""
        reply = self.client.post(f"/v1/models/{place}", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def refused(self, status: int, body: Any, place: str = "v1/models/net:explain") -> str:
        """The line of a refusal."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        reply = self.client.post(f"/{place}", **content)
        assert reply.status_code == status, reply.text
        told = reply.json()
        assert list(told) == ["error"]
        line: str = told["error"]
        assert "\n" not in line
        assert "Traceback" not in line
        return line


@pytest.fixture
def start(bundles: Bundles, tmp_path: Path) -> Iterator[Start]:
    """(bundle's path or kind, backend, limits as keywords) -> a running service, warmed up; closed after the test."""
    running: list[Running] = []

    def make(
        bundle: Any = "residual",
        backend: str = "onnxruntime",
        methods: dict[str, dict[str, str]] | None = None,
        **limits: Any,
    ) -> Running:
        path = bundles(bundle, gradients=True).path if isinstance(bundle, str) else bundle
        one = Running(path, backend, Limits(**limits), METHODS if methods is None else methods)
        running.append(one)
        one.service.models.load("net")
        return one

    yield make
    for one in running:
        one.service.close()


@pytest.fixture
def program(bundles: Bundles, tmp_path: Path) -> Iterator[Program]:
    shutil.copytree(bundles("residual", gradients=True).path, tmp_path / "net.xai")
    one = Program(f"net={tmp_path / 'net.xai'}", "-m", "grad-cam,rise:masks=3000", "--watch", "0.2")
    yield one
    if one.process.poll() is None:
        one.stop()
    for stream in (one.process.stdout, one.process.stderr):
        assert stream is not None
        stream.close()
