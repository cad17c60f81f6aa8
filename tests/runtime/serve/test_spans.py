"""Spans of OpenTelemetry, with its SDK: one for each request, below the caller's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from xai_deploy.serve import spans

from .. import tiny
from .conftest import Start

ONE = tiny.inputs("residual", 1)[0].tolist()
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)  # the provider of a process can be set only once
    yield exporter
    provider.shutdown()


def test_a_span_for_each_request(start: Start, exported: InMemorySpanExporter) -> None:
    running = start()
    body: dict[str, Any] = {"instances": [ONE]}
    running.client.post("/v1/models/net:explain", json=body, headers={"traceparent": CALLER})
    running.client.post("/v1/models/net:explain", json={**body, "parameters": {"target": 99}})
    good, bad = exported.get_finished_spans()
    assert good.name == "xai-serve v1"
    assert good.attributes == {"xai.model": "net", "xai.method": "grad-cam", "http.response.status_code": 200}
    assert good.parent is not None
    assert f"{good.parent.trace_id:032x}-{good.parent.span_id:016x}" == CALLER[3:-3]
    assert bad.attributes is not None
    assert bad.attributes["http.response.status_code"] == 400
    assert bad.parent is None


def test_without_the_api_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with spans.Spans().request("xai-serve v1", {"traceparent": CALLER}) as set_attribute:
        set_attribute("xai.model", "net")
