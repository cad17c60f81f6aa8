"""A progress bar for long work: shown by tqdm at a terminal, if the caller asks for it; silent otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(steps: Iterable[T], total: int, label: str, shown: bool) -> Iterator[T]:
    """Yield the steps, with a bar on standard error if `shown` is set, standard error is a terminal and tqdm is installed."""
    if shown and sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            # `delay`: work of less than a second shows no bar.
            yield from tqdm(steps, total=total, desc=label, leave=False, delay=1.0)
            return
    yield from steps
