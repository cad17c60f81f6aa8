"""The queue between a Recorder's callers and the thread that writes its chain; over forks each process has its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from collections import deque
from pathlib import Path

from ..errors import RecordsError
from .chain import Chain

_BATCH = 256  # records that are written at once, at most
_LOOK = 0.1  # seconds after which whoever waits looks again: a handler may close after the look and before the wait
_UNWRITTEN = (OSError, ValueError)  # os.fsync raises a ValueError for -1, the number of a closed file

_alive: weakref.WeakSet[Writer] = weakref.WeakSet()


class Writer:
    """The queue of one Recorder, and the thread that writes it. Chain and thread begin with the first record.

    A signal handler may call `close` while its own thread is inside `put` or `close`, between any two steps. So these hold:

    - `close` waits with `Condition.wait`, which gives the lock back however often this thread has taken it. `Thread.join` would
      wait for ever, for a thread that waits for the lock.
    - One step accepts a record: it is appended to the queue. If the handler had closed the chain before, `put` takes it out again
      and refuses it.
    """

    def __init__(self, folder: Path, durable: bool, queue: int, queue_bytes: int, drop: bool, file_bytes: int) -> None:
        self._folder, self._durable, self._drop, self._file_bytes = folder, durable, drop, file_bytes
        self._most, self._most_bytes = queue, queue_bytes
        self._chain: Chain | None = None
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        """The state without any record."""
        self._changed = threading.Condition()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = self._written = self.lost = 0
        self._thread: threading.Thread | None = None
        self._failed: str | None = None
        self._closed = self._ended = False  # no more records are taken; the chain says so on the disk

    @property
    def _accepted(self) -> int:
        """How many records were accepted: those that wait, and those that are written."""
        return self._written + len(self._queue)

    def put(self, content: bytes) -> None:
        """Accept a record, or drop it.

        Raises:
            RecordsError: Records can't be written, or the Recorder is closed.
        """
        with self._changed:
            self._check()
            while self._full(len(content)):
                if self._drop:
                    self.lost += 1
                    self._count(self._accepted)
                    return
                self._changed.wait(_LOOK)
                self._check()
            self._accept(content)
            mine = self._accepted
            while self._durable and self._written < mine:
                self._changed.wait(_LOOK)
                if self._written < mine:
                    self._check_written()

    def _full(self, size: int) -> bool:
        return len(self._queue) >= self._most or bool(self._queue and self._bytes + size > self._most_bytes)

    def _accept(self, content: bytes) -> None:
        self._count(self._accepted + 1)
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="xai-records", daemon=True)
            thread.start()
            self._thread = thread
        self._bytes += len(content)
        self._queue.append((content, self.lost))
        if (
            self._ended and self._queue
        ):  # a handler closed the chain before this step; after it, the record would be written
            self._queue.clear()
            self._check()
        self._changed.notify_all()

    def _count(self, accepted: int) -> None:
        try:
            if self._chain is None:
                self._chain = Chain(self._folder, self._file_bytes)
                if self._ended:  # a handler has closed the Recorder before it had a chain
                    self._chain.close(0, self.lost)
            self._chain.count(accepted, self.lost)
        except _UNWRITTEN as error:
            self._check()  # a handler has closed the chain meanwhile: that is no failure
            self._fail(error)
            self._check_written()

    def _check(self) -> None:
        self._check_written()
        if self._closed:
            raise RecordsError(f"{self._folder}: this Recorder is closed; open another")

    def _check_written(self) -> None:
        if self._failed is not None:
            raise RecordsError(self._failed)

    def _fail(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        missing = self._accepted - self._written
        behind = f"; {missing} that were accepted are lost" if missing else ""
        self._failed = (
            f"{self._folder}: records can't be written ({reason}){behind}; mend that, and open another Recorder"
        )

    def _work(self) -> None:
        """The thread: writes what waits. A batch stays in the queue, and counts there, until it is written."""
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                batch = list(itertools.islice(self._queue, _BATCH))
            if not batch:
                return
            try:
                assert self._chain is not None
                self._chain.write(batch, self._durable)
            except Exception as error:
                with self._changed:
                    self._fail(error)
                    self._queue.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                for content, _ in batch:
                    self._queue.popleft()
                    self._bytes -= len(content)
                self._written += len(batch)
                self._changed.notify_all()

    def close(self) -> None:
        """Write what waits, and end the chain.

        Raises:
            RecordsError: Records could not be written.
        """
        with self._changed:
            if self._ended:
                return
            self._closed = True
            self._changed.notify_all()
            while self._queue and self._failed is None:
                self._changed.wait(_LOOK)
            self._end()
        self._check_written()

    def _end(self) -> None:
        """Close the chain, of which everything is written, or could not be."""
        if self._chain is not None:
            try:
                if self._failed is None:
                    self._chain.close(self._accepted, self.lost)
            except _UNWRITTEN as error:
                if not self._chain.ended:
                    self._fail(error)
            finally:
                self._chain.abandon()
        self._ended = True

    def end(self) -> None:
        """Close where nobody can be told of an error: at the end of Python, or with the last reference to the Recorder."""
        with contextlib.suppress(RecordsError):
            self.close()

    def fork(self) -> None:
        """In a forked process: begin a chain of its own. What waits is the other process's, whose thread writes it."""
        closed, failed = self._closed, self._failed
        if self._chain is not None:
            self._chain.abandon()
            self._chain = None
        self._begin()
        self._closed, self._failed = closed, failed


def _after_fork() -> None:
    for writer in list(_alive):
        writer.fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
