"""Transparent images: their transparency is ignored, and said: for each image, or once and collected."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from numpy.typing import NDArray

_collected: ContextVar[set[str] | None] = ContextVar("transparent images", default=None)

log = logging.getLogger(__name__)


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Within it, the warning is logged for the first transparent image alone, and `is_transparent` knows all of them."""
    token = _collected.set(set())
    try:
        yield
    finally:
        _collected.reset(token)


def is_transparent(name: object) -> bool:
    """Whether an image that was read within `said_once` is transparent in places."""
    return str(name) in (_collected.get() or ())


def warn_of_transparency(alpha: NDArray[Any], opaque: float, name: object) -> None:
    """Log a warning if a pixel is transparent.

    Args:
        alpha: The alpha channel [h,w].
        opaque: Its largest value.
        name: The image, for the message.
    """
    if alpha.min() >= opaque:
        return
    names = _collected.get()
    if not names:
        more = "" if names is None else " (so for all transparent images of this run)"
        log.warning(
            "%s: transparent in places; the transparency is ignored and the stored colours are used%s", name, more
        )
    if names is not None:
        names.add(str(name))
