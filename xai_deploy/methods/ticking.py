"""A progress bar for work that finds out on its way how long it takes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

from .method import Forward


@contextlib.contextmanager
def ticking(forward: Forward, most: int, label: str) -> Iterator[Callable[[int], None]]:
    """A bar of at most `most` items.

    Yields:
        A function that is told how many items are done.
    """
    with contextlib.closing(forward.progress(itertools.repeat(None), most, label)) as steps:
        next(steps)  # the first item is under way

        def done(count: int) -> None:
            for _ in range(count):
                next(steps)

        yield done
