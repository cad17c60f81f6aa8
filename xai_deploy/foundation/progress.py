"""How far long work is: a bar by tqdm at a terminal, a log line a minute elsewhere; silent unless the caller asks for it."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

MINUTE = 60.0  # seconds between two lines

log = logging.getLogger(__name__)


@dataclass
class _Clock:
    """When the last line was logged. Nested work shares the clock, so there is one line a minute in all."""

    last: float = 0.0
    running: int = 0  # how many calls of `progress` are at work

    def minute_is_over(self) -> bool:
        now = time.monotonic()
        over = now - self.last >= MINUTE
        self.last = now if over else self.last
        return over


_clock = _Clock()


def progress(
    steps: Iterable[T], total: int, label: str, shown: bool, size: Callable[[T], int] = lambda step: 1, done: int = 0
) -> Generator[T, None, None]:
    """Yield the steps. If `shown` is set, say how far the work is.

    At a terminal with tqdm installed this is a bar on standard error. Otherwise it is a line each minute, of the level INFO,
    which the commands print.

    Args:
        steps: The steps of the work.
        total: The items in all steps: images, batches.
        label: What the items are, for example "images".
        shown: Whether to say anything.
        size: The items in one step.
        done: The items that were done before.
    """
    bar = _bar(total, label, done) if shown else None
    if not _clock.running:
        _clock.last = time.monotonic()
    _clock.running += 1
    try:
        for step in steps:
            yield step
            done += size(step)
            if bar is not None:
                bar.update(size(step))
            elif shown and _clock.minute_is_over():
                log.info("%s: %d of %d", label, done, total)
    finally:
        _clock.running -= 1
        if bar is not None:
            bar.close()


def _bar(total: int, label: str, done: int) -> Any:
    """A bar, or None without a terminal or without tqdm."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # `delay`: work of less than a second shows no bar.
    return tqdm(total=total, desc=label, initial=done, leave=False, delay=1.0)


@contextlib.contextmanager
def step_line(shown: bool) -> Iterator[Callable[[str], None]]:
    """Say which step of long work is at hand, if `shown` is set.

    Yields:
        A function for the step's name. At a terminal each name takes the place of the last one, and the line is empty in the end.
        Otherwise it is logged as in `progress`, at most once a minute.
    """
    if not shown or not sys.stderr.isatty():
        _clock.last = _clock.last if _clock.running else time.monotonic()
        yield lambda step: log.info("%s", step) if shown and _clock.minute_is_over() else None
        return

    def show(text: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{text}")  # back to the line's start, and erase it
        sys.stderr.flush()

    try:
        yield lambda step: show(f"{step} ...")
    finally:
        show("")
