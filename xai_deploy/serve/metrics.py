"""What a server counts, for Prometheus: the only module that imports prometheus_client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .engine import Ran

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts of one server.

    Args:
        under_way: Gives the number of requests under way.
        waiting: Gives the number of requests that wait for the network.
    """

    def __init__(self, under_way: Callable[[], int], waiting: Callable[[], int]) -> None:
        import prometheus_client as prometheus

        self._registry = prometheus.CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Any:
            return prometheus.Counter(f"xai_{name}", text, labels, registry=self._registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Any:
            return prometheus.Histogram(f"xai_{name}", text, labels, buckets=buckets, registry=self._registry)

        self._requests = counter("requests", "Requests answered, by status", "model", "protocol", "method", "status")
        self._refused = counter("refused", "Requests refused because the server was full or not ready", "status")
        self._seconds = histogram(
            "request_seconds", "From a request's headers to its answer", _SECONDS, "model", "method"
        )
        self._run_seconds = histogram("run_seconds", "One run of a batch", _SECONDS, "model", "method")
        self._images = counter("images", "Images predicted or explained", "model", "method")
        self._batches = histogram("batch_images", "Images in a run", _SIZES, "model", "method")
        for name, text, function in (
            ("requests_under_way", "Requests taken on and not answered yet", under_way),
            ("queue_length", "Requests that wait for the network", waiting),
        ):
            prometheus.Gauge(f"xai_{name}", text, registry=self._registry).set_function(function)

    def answered(self, model: str, protocol: str, method: str, status: int, seconds: float) -> None:
        """Count a request. Model and method are names that the server knows, or "", so that strangers add no series."""
        self._requests.labels(model, protocol, method, str(status)).inc()
        if status in (429, 503):
            self._refused.labels(str(status)).inc()
        elif status == 200:
            self._seconds.labels(model, method).observe(seconds)

    def turned_away(self, status: int) -> None:
        """Count a request that was refused before anybody looked at it."""
        self._refused.labels(str(status)).inc()

    def ran(self, model: str, ran: Ran) -> None:
        """Count a run of a batch."""
        self._run_seconds.labels(model, ran.method).observe(ran.seconds)
        self._batches.labels(model, ran.method).observe(ran.images)
        self._images.labels(model, ran.method).inc(ran.images)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All counts in the format that a scraper accepts, and that format's content type."""
        from prometheus_client.exposition import choose_encoder

        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind
