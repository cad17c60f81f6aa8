"""Progress: a line a minute without a terminal, a bar that counts items at one, nothing unless asked."""

from __future__ import annotations

import io
import logging
import sys
import time
from typing import Any

import pytest

from xai_deploy.foundation import progress as module
from xai_deploy.foundation.progress import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds; a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_line_a_minute(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in progress([16, 16, 8], 50, "images", True, lambda images: images, done=10):
        clock[0] += 61
    assert lines(caplog) == ["images: 26 of 50", "images: 42 of 50", "images: 50 of 50"]


def test_less_than_a_minute_says_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in progress(range(59), 59, "images", True):
        clock[0] += 1
    assert lines(caplog) == []


def test_nested_work_shares_the_minute(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """Two images of 50 s with 5 batches each: lines after 60 s and 120 s, from whatever is at work then."""
    caplog.set_level(logging.INFO)
    for _ in progress(range(3), 3, "images", True):
        for _ in progress(range(5), 5, "batches", True):
            clock[0] += 10
    assert lines(caplog) == ["batches: 1 of 5", "batches: 2 of 5"]


def test_silent_unless_asked(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in progress(range(3), 3, "images", False):
        clock[0] += 100
    assert lines(caplog) == []


def test_the_clock_stops_with_work_that_fails(clock: list[float]) -> None:
    def fails() -> None:
        for _ in progress(range(3), 3, "images", True):
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert module._clock.running == 0


def test_a_bar_counts_items(monkeypatch: pytest.MonkeyPatch) -> None:
    import tqdm

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown: list[tuple[int, int]] = []

    class Bar(tqdm.tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> Any:
            super().update(n)
            shown.append((int(self.n), int(self.total)))

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress(["a", "bc", "def"], 9, "images", True, len, done=3)) == ["a", "bc", "def"]
    assert shown == [(4, 9), (6, 9), (9, 9)]
