"""The opened graphs of one Explainer: opened when first needed, closed together, opened again in a forked process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from .backends import Session
from .errors import BackendError, ClosedError

_alive: weakref.WeakSet[Sessions] = weakref.WeakSet()
_inherited: list[dict[str, Session]] = []


class Sessions:
    """Role -> opened graph. Calls from several threads are safe.

    A process that is forked inherits sessions whose threads do not exist in it. It opens its own. The inherited ones are
    kept, because closing one would wait for its threads.

    Args:
        open_graph: Opens the graph of a role.
        device: The device that runs them.

    Attributes:
        opened: The sessions that are open.
    """

    def __init__(self, open_graph: Callable[[str], Session], device: str) -> None:
        self._open_graph = open_graph
        self._device = device
        self._lock = threading.Lock()
        self._why_not: Exception | None = None
        self.opened: dict[str, Session] = {}
        _alive.add(self)

    def __call__(self, role: str) -> Session:
        """The opened graph of a role; opened by the first thread that asks.

        Raises:
            ClosedError: The Explainer is closed.
            BackendError: A device other than the CPU was in use when this process was forked.
        """
        session = self.opened.get(role)
        if session is None:
            with self._lock:
                if self._why_not is not None:
                    raise self._why_not
                session = self.opened.get(role)  # another thread may have opened it meanwhile
                if session is None:
                    session = self.opened[role] = self._open_graph(role)
        return session

    def close(self) -> None:
        """Let go of every session, and refuse to open another."""
        with self._lock:
            self._why_not = ClosedError("this Explainer is closed; open another for the same bundle")
            self.opened = {}

    def _fork(self) -> None:
        """In a forked process: open sessions of its own from now on."""
        self._lock = threading.Lock()  # a thread of the other process may have held it
        if not self.opened:
            return
        _inherited.append(self.opened)
        self.opened = {}
        if self._device != "cpu":
            self._why_not = BackendError(
                f"this process was forked after its Explainer had run on {self._device!r}, and no driver allows that; "
                "open the Explainer in each worker (gunicorn: without --preload, or in post_fork)"
            )


def _after_fork() -> None:
    for sessions in _alive:
        sessions._fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
