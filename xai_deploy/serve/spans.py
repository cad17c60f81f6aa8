"""Spans of OpenTelemetry, if its API is installed; the SDK decides where they go: the only module that imports it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_NAME = "xai_deploy.serve"


class Spans:
    """One span for each request, a child of the caller's (`traceparent`).

    Without the package `opentelemetry-api` there are none. `opentelemetry-instrument xai-serve ...` sets up the SDK from its own
    environment variables.
    """

    def __init__(self) -> None:
        try:
            self._trace: Any = importlib.import_module("opentelemetry.trace")
            self._propagate: Any = importlib.import_module("opentelemetry.propagate")
        except ImportError:
            self._trace = None

    @contextlib.contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[Callable[[str, Any], None]]:
        """A span around a request.

        Args:
            name: What is asked for.
            headers: The request's, in lower case.

        Yields:
            Sets an attribute of the span.
        """
        if self._trace is None:
            yield lambda key, value: None
            return
        tracer = self._trace.get_tracer(_NAME)
        context = self._propagate.extract(headers)
        with tracer.start_as_current_span(name, context=context, kind=self._trace.SpanKind.SERVER) as span:
            yield span.set_attribute
