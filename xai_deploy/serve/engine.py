"""The queue between the requests and the network: admission, deadlines, batches of several requests.

One thread runs the network, since a run uses all cores. It takes the request that has waited longest, and with it all that fit into
the same batch: one bundle, one method, the same options. While requests are being read it may wait for them for some milliseconds.

Refusing is cheap, so that it can be done a thousand times a second beside the network: by what waits and what is being read a
request is refused before its body is looked at. What can't be answered in time any more is refused as soon as that is known.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError, MethodError, NonFiniteOutputError
from ..foundation.options import title_of
from .asked import Asked
from .limits import Limits
from .priority import give_way
from .refusals import BAD_REQUEST, NOT_READY, TOO_LARGE, TOO_MANY, Refusal, forget_frames
from .versions import MARGIN, PREDICTION, Version
from .work import Result, run

log = logging.getLogger(__name__)

_LATELY = 64  # requests whose costs say what the next one may cost
_FADES = 0.9  # share of the longest way to the client that the next, shorter one leaves
_MOST_KEPT = 0.25  # share of a request's time that is kept for reading and sending at most


@dataclass(eq=False)
class Job:
    """A request that waits or runs.

    Attributes:
        asked: What it asks for.
        version: The bundle that answers it.
        deadline: When its result has to be there, by `time.monotonic`, so that it is answered in time.
        seconds: What it is expected to take, as of when it was taken on.
        alone: It can't share a batch.
        result: Its answer, later.
        began: When its run began, by `time.monotonic`; 0 before.
        ended: When its run ended; 0 before.
    """

    asked: Asked
    version: Version
    deadline: float
    seconds: float
    alone: bool
    result: Future[Result] = field(default_factory=Future)
    began: float = 0.0
    ended: float = 0.0

    @property
    def title(self) -> str:
        """The method with its options; "prediction" without one."""
        return PREDICTION if self.asked.method is None else title_of(self.asked.method, self.asked.options)

    def expected(self, least: bool = False) -> float:
        """Seconds that a run of it alone takes at most, as far as is known now; `least`: with nothing beside it."""
        asked = self.asked
        method = None if asked.method is None else self.version.method(asked.method, asked.options)[1]
        return self.version.cost(asked.method, method, asked.options, least) * len(asked.images)

    def joins(self, other: Job) -> bool:
        """Whether both can run in one batch."""
        return not (self.alone or other.alone) and self.version is other.version and self.title == other.title


@dataclass(frozen=True)
class Ran:
    """What a run was, for metrics.

    Attributes:
        version: The bundle.
        title: What was run; see `Job.title`.
        images: How many in the batch.
        requests: How many in the batch.
        seconds: How long it took.
    """

    version: Version
    method: str
    images: int
    requests: int
    seconds: float


class Engine:
    """Takes requests on, and runs them in batches.

    Args:
        limits: What it takes on.
        on_run: Called after every run.
    """

    def __init__(self, limits: Limits, on_run: Callable[[Ran], None] = lambda ran: None) -> None:
        self.limits = limits
        self._on_run = on_run
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._open, self._reading, self._held = 0, 0, 0
        self._stopping = False
        self._lately: deque[float] = deque(maxlen=_LATELY)
        self._way = 0.0
        self._thread = threading.Thread(target=self._work, name="xai-serve-engine", daemon=True)
        self._thread.start()

    @property
    def under_way(self) -> int:
        """Requests that are taken on and not answered yet."""
        return self._open

    @property
    def full(self) -> Refusal | None:
        """Why no further request is taken on at this moment; None if one is."""
        with self._changed:
            count, backlog = self._open, self._backlog()
            if count >= self.limits.requests:
                return Refusal(TOO_MANY, f"{count} requests are under way; try again", backlog)
            # The cheapest of late: a request that asks for as little as any did is let in while there is time for it.
            before = backlog + self._reading * min(self._lately, default=0.0)
            if before + min(self._lately, default=0.0) > self.limits.timeout:
                return Refusal(TOO_MANY, f"{before:.2g} s of work wait; try again", before)
            return None

    def kept(self, timeout: float) -> float:
        """Seconds of a request's time that are kept for what comes before it is known and after its result is there."""
        return min(2 * self._way, _MOST_KEPT * timeout)

    def sent(self, job: Job) -> None:
        """Learn from an answer that is written how long that takes: from the end of the run on."""
        self._way = max(time.monotonic() - job.ended, _FADES * self._way)

    @property
    def waiting(self) -> int:
        """Requests that wait for the network."""
        return len(self._waiting)

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """A request's stay, from its headers to its answer.

        Raises:
            Refusal: There are too many.
        """
        with self._changed:
            if (full := self.full) is not None:
                raise full
            self._open += 1
        try:
            yield
        finally:
            with self._changed:
                self._open -= 1

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """The time in which a request's images are decoded: a batch may wait for it."""
        with self._changed:
            self._reading += 1
        try:
            yield
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()

    def submit(self, asked: Asked, version: Version, alone: bool, started: float) -> Job:
        """Let a request wait for the network.

        Args:
            asked: What it asks for.
            version: The bundle that answers it.
            alone: It can't share a batch.
            started: When it arrived, by `time.monotonic`.

        Raises:
            Refusal: It can't be answered in time, takes too much memory, or too much waits.
        """
        if asked.held > self.limits.held:
            raise Refusal(
                TOO_LARGE,
                f"its images take {(asked.held - asked.maps) >> 20} MiB and the maps of its answer {asked.maps >> 20} MiB, and "
                f"{self.limits.held >> 20} MiB are allowed for both; send fewer images, or ask for fewer targets",
            )
        job = Job(asked, version, started + asked.timeout - self.kept(asked.timeout), 0.0, alone)
        job.seconds = seconds = job.expected()
        if (least := job.expected(least=True)) > asked.timeout:
            raise Refusal(
                BAD_REQUEST,
                f"{asked.method or PREDICTION}: takes about {least:.2g} s for {len(asked.images)} images here, and the request "
                f"has {asked.timeout:.2g} s; allow more time (at most {self.limits.timeout:g} s), or ask for fewer steps or images",
            )
        with self._changed:
            self._lately.append(min(seconds, asked.timeout))
            if self._stopping:
                raise Refusal(NOT_READY, "the server is stopping; ask another one", 1)
            backlog = self._backlog()
            if time.monotonic() + backlog + seconds > job.deadline:
                why = f"{backlog:.2g} s of work wait"
                if seconds > backlog:
                    why = f"{asked.method or PREDICTION} takes about {seconds:.2g} s at this moment, and {why}"
                raise Refusal(TOO_MANY, f"can't be answered in {asked.timeout:.2g} s: {why}; try again", backlog)
            if self._held + asked.held > self.limits.held:
                raise Refusal(
                    TOO_MANY,
                    "the images and maps of requests that wait fill the memory allowed for them; try again",
                    backlog,
                )
            self._held += asked.held
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def close(self) -> None:
        """Answer what waits, and stop."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _backlog(self) -> float:
        """Seconds of work that wait or run."""
        now = time.monotonic()
        running = sum(job.seconds for job in self._running)
        if self._running:
            running = max(0.0, running - (now - self._running[0].began))
        return running + sum(job.seconds for job in self._waiting)

    def _work(self) -> None:
        give_way()
        while self._next_batch():
            pass  # no batch is named here: the thread would keep the last one while it waits

    def _next_batch(self) -> bool:
        """Run the batch that is next; False: the server stops, and none is left."""
        with self._changed:
            self._refuse_late()
            while not self._waiting and not self._stopping:
                self._changed.wait()
            if not self._waiting:
                return False
            self._wait_for_mates()
            batch = self._running = self._taken()
            now = time.monotonic()
            for job in batch:
                job.began = now
        try:
            self._answer(batch)
        finally:
            with self._changed:
                self._running = []
                self._held -= sum(job.asked.held for job in batch)
        return True

    def _refuse_late(self) -> None:
        """Refuse what waits and can't be answered in time any more, even if all runs take just what they took last."""
        end, left = time.monotonic(), []
        for job in self._waiting:
            seconds = job.expected() / MARGIN
            if end + seconds <= job.deadline:
                end += seconds
                left.append(job)
                continue
            self._held -= job.asked.held
            if job.result.set_running_or_notify_cancel():
                line = f"can't be answered in {job.asked.timeout:.2g} s any more: earlier ones took longer than expected; try again"
                job.result.set_exception(Refusal(TOO_MANY, line, end - time.monotonic()))
        self._waiting = left

    def _wait_for_mates(self) -> None:
        """Wait for requests that are being read, while the batch is not full and for `batch_wait` at most."""
        until = time.monotonic() + self.limits.batch_wait
        first = self._waiting[0]
        most = min(self.limits.batch, first.version.explainer.batch_size)
        while not first.alone and self._reading and (left := until - time.monotonic()) > 0:
            if sum(len(job.asked.images) for job in self._waiting if job.joins(first) or job is first) >= most:
                return
            self._changed.wait(left)

    def _taken(self) -> list[Job]:
        """The batch that runs next, taken out of the queue: no larger than every request in it has time for."""
        first = self._waiting[0]
        most = min(self.limits.batch, first.version.explainer.batch_size)
        batch, images, end, deadline = (
            [first],
            len(first.asked.images),
            time.monotonic() + first.expected(),
            first.deadline,
        )
        for job in self._waiting[1:]:
            if images + len(job.asked.images) <= most and job.joins(first):
                later, earliest = end + job.expected(), min(deadline, job.deadline)
                if later <= earliest:
                    batch.append(job)
                    images += len(job.asked.images)
                    end, deadline = later, earliest
        self._waiting = [job for job in self._waiting if job not in batch]
        return batch

    def _answer(self, batch: Sequence[Job]) -> None:
        """Run a batch, and give every request its answer or its error."""
        batch = [job for job in batch if job.result.set_running_or_notify_cancel()]
        if not batch:
            return
        started = time.perf_counter()
        try:
            results = run([job.asked for job in batch], batch[0].version, batch[0].alone)
        except (InputError, MethodError, NonFiniteOutputError) as error:
            forget_frames(error)
            if len(batch) == 1:
                batch[0].result.set_exception(error)
                return
            for job in batch:  # one of them is at fault: each by itself
                _alone(job)
            return
        except (
            BaseException
        ) as error:  # a bug, or a failure of the runtime: each request gets it, and the thread goes on
            log.error(
                "%s: %s: %s", batch[0].title, type(error).__name__, error, exc_info=not isinstance(error, Exception)
            )
            for job in batch:
                job.result.set_exception(error)
            return
        seconds = time.perf_counter() - started
        images = sum(len(job.asked.images) for job in batch)
        batch[0].version.costs.measured(batch[0].title, seconds / images)
        ended = time.monotonic()
        for job, result in zip(batch, results, strict=True):
            job.ended = ended
            job.result.set_result(result)
        self._on_run(Ran(batch[0].version, batch[0].asked.method or PREDICTION, images, len(batch), seconds))


def _alone(job: Job) -> None:
    try:
        [result] = run([job.asked], job.version, job.alone)
    except BaseException as error:
        job.result.set_exception(error)
    else:
        job.ended = time.monotonic()
        job.result.set_result(result)


def deadline_of(timeout: Any, limits: Limits) -> float:
    """The seconds that a request allows, within what the server allows.

    Raises:
        Refusal: It is no positive number.
    """
    if timeout is None:
        return limits.timeout
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise Refusal(BAD_REQUEST, f"timeout_ms is a number above 0, not {str(timeout)[:40]!r}")
    return min(float(timeout) / 1000, limits.timeout)
