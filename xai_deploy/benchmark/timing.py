"""Time several calls fairly, and say how they compare."""

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

    What slows the machine down for a while slows all of them, so that the times of one round compare. The order changes from
    round to round, for a call finds the caches as its predecessor leaves them; it is the same for every caller.

    Args:
        calls: What to time.
        runs: Rounds that are timed.
        warmup: Rounds before them.
        clock: Gives the time in seconds.
        label: Names the progress bar.
        show_progress: Show one at a terminal.

    Returns:
        The seconds of each call, by round.
    """
    order = random.Random(0)
    seconds: dict[K, list[float]] = {key: [] for key in calls}
    for turn in progress(range(warmup + runs), warmup + runs, label, show_progress):
        for key in order.sample(list(calls), len(calls)):
            call = calls[key]
            started = clock()
            call()
            ended = clock()
            if turn >= warmup:
                seconds[key].append(ended - started)
    return seconds


@dataclass(frozen=True)
class Summary:
    """Times beside those of plain inference.

    Attributes:
        median: In seconds.
        iqr: The interquartile range in seconds; None of a single time.
        ratio: The median of the ratios to plain inference in the same round.
        ratio_iqr: The interquartile range of these ratios.
    """

    median: float
    iqr: float | None
    ratio: float
    ratio_iqr: float | None


def summarise(seconds: Sequence[float], plain: Sequence[float]) -> Summary:
    """Compare the times of a call, at least one, with those of plain inference in the same rounds."""
    ratios = [one / other for one, other in zip(seconds, plain, strict=True)]
    return Summary(float(np.median(seconds)), _iqr(seconds), float(np.median(ratios)), _iqr(ratios))


def _iqr(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    low, high = np.percentile(values, [25, 75])
    return float(high - low)
