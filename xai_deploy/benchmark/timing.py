"""Time several calls under the same conditions, and compare the times."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..foundation.progress import progress

K = TypeVar("K", bound=Hashable)


def interleave(
    calls: Mapping[K, Callable[[], object]],
    runs: int,
    warmup: int = 0,
    *,
    clock: Callable[[], float] = time.perf_counter,
    label: str = "runs",
    show_progress: bool = False,
) -> dict[K, list[float]]:
    """Time calls in rounds: each round runs every call once.

    A machine that is slow for a while slows all calls, so the times of one round are comparable. The order changes from round
    to round, because a call finds the caches as the call before it left them. The orders come from a fixed seed.

    Args:
        calls: The calls to time.
        runs: Number of timed rounds.
        warmup: Number of rounds before them.
        clock: Returns the time in seconds.
        label: Text of the progress bar.
        show_progress: Show a progress bar at a terminal.

    Returns:
        The seconds of each call, one number per round.
    """
    order = random.Random(0)
    seconds: dict[K, list[float]] = {key: [] for key in calls}
    for turn in progress(range(warmup + runs), warmup + runs, label, show_progress):
        for key in order.sample(list(calls), len(calls)):  # a random permutation of all calls
            call = calls[key]
            started = clock()
            call()
            ended = clock()
            if turn >= warmup:
                seconds[key].append(ended - started)
    return seconds


@dataclass(frozen=True)
class Summary:
    """The times of a call, compared with those of plain inference.

    Attributes:
        median: The median in seconds.
        iqr: The interquartile range in seconds; None for a single time.
        ratio: The median of the ratios to plain inference in the same round.
        ratio_iqr: The interquartile range of these ratios; None for a single time.
    """

    median: float
    iqr: float | None
    ratio: float
    ratio_iqr: float | None


def summarise(seconds: Sequence[float], plain: Sequence[float]) -> Summary:
    """Compare the times of a call, at least one, with those of plain inference in the same rounds."""
    # Ratios within a round, then their median: a round in which the machine was slow changes both times alike.
    ratios = [one / other for one, other in zip(seconds, plain, strict=True)]
    return Summary(float(np.median(seconds)), _iqr(seconds), float(np.median(ratios)), _iqr(ratios))


def _iqr(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    low, high = np.percentile(values, [25, 75])
    return float(high - low)
