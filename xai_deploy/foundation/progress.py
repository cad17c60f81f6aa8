"""A progress bar for what takes longer than a moment: with tqdm, at a terminal, where asked for; silent otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(steps: Iterable[T], total: int, label: str, shown: bool) -> Iterator[T]:
    """The steps; while they are taken, a bar on standard error if `shown`, it is a terminal and tqdm is installed."""
    if shown and sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            yield from tqdm(steps, total=total, desc=label, leave=False, delay=1.0)
            return
    yield from steps
