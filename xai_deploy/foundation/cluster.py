"""Work on a Ray cluster: items go to worker processes, results come back as they are done. The only place that imports Ray.

Ray's plain actors are used, not Ray Data: the caller's journal says which items are done, so a killed driver goes on from there.
The driver hands out as few items at a time as keep the workers busy, so memory does not grow with the number of items. A worker
that dies is replaced, and its items are done again; their results do not depend on who computes them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import BackendNotInstalledError, XaiError

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "local"
_AT_ONCE = 2  # items of one worker under way: the second waits at the worker while the first result travels
_STRETCH = 4  # consecutive items for one worker: neighbours lie in the same shard
_DEATHS = 3  # workers that one item may cost
_AT_START = -1  # in the count of deaths: before a worker was given anything
_STORE = 1 << 28  # bytes of a local object store; results are small
_WAIT = 60.0  # seconds

log = logging.getLogger(__name__)
Said = tuple[str, int, str]
"""A log record of a worker: logger, level, message."""


@dataclass(frozen=True)
class Cluster:
    """Where work runs.

    Attributes:
        address: "local" starts a cluster of this machine's cores; else the address of a running one, as `ray.init` takes it.
        workers: How many worker processes; None: as many as the cluster's cores allow.
        cpus: Cores of one worker.
        gpus: GPUs of one worker.
    """

    address: str = LOCAL
    workers: int | None = None
    cpus: int = 1
    gpus: int = 0


def require_ray() -> Any:
    """The module ray.

    Raises:
        BackendNotInstalledError: It is not installed.
    """
    try:
        import ray
    except ImportError:
        raise BackendNotInstalledError(
            '--ray needs Ray, which is not installed; pip install "xai-deploy[ray]"'
        ) from None
    return ray


class _Worker(Generic[T, R]):
    """What a worker process holds. Its work is made by the first call, so that an error of it is told as any other."""

    def __init__(self, make: Callable[[], Callable[[T], R]], folder: str) -> None:
        self._make, self._folder = make, folder
        self._work: Callable[[T], R] | None = None

    def ready(self) -> int:
        """The process's id, as soon as it runs."""
        return os.getpid()

    def do(self, item: T) -> tuple[R | XaiError, list[Said]]:
        """The result for one item, or the error that the work raised on purpose; and what was logged."""
        with _listening() as said:
            try:
                if self._work is None:
                    _enter(self._folder)
                    self._work = self._make()
                    said.clear()  # the driver has opened the same, and said it
                return self._work(item), said
            except XaiError as error:
                return error, said


def _enter(folder: str) -> None:
    """Change to the driver's folder, from which its paths start."""
    try:
        os.chdir(folder)
    except OSError:
        raise XaiError(
            f"{folder}: is not on {socket.gethostname()}, a machine of the cluster; all machines need the same shared folders"
        ) from None


@contextlib.contextmanager
def _listening() -> Iterator[list[Said]]:
    said: list[Said] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append((record.name, record.levelno, record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("xai_deploy")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


@dataclass(eq=False)
class _Seat:
    """One worker, from the driver's side.

    Attributes:
        actor: Ray's handle.
        items: The items under way, the one that is computed first.
        own: Items that it will be given next.
        up: Whether it has started. A worker that waits for resources is given nothing.
    """

    actor: Any
    items: deque[tuple[Any, int]] = field(default_factory=deque)
    own: deque[int] = field(default_factory=deque)
    up: bool = False


def spread(make: Callable[[], Callable[[T], R]], items: Sequence[T], cluster: Cluster) -> Iterator[tuple[T, R]]:
    """Do work for all items on a cluster.

    Args:
        make: Called once in each worker; gives the function that does the work. It is pickled.
        items: They are pickled, too.
        cluster: Where.

    Yields:
        Each item with its result, in the order in which they are done.

    Raises:
        BackendNotInstalledError: Ray is missing.
        XaiError: The cluster can't be reached or has no such resources; the work raised it; an item killed several workers.
    """
    ray = require_ray()
    if not items:
        return
    with _connected(ray, cluster) as count:
        pool: _Pool[T, R] = _Pool(ray, make, items, cluster)
        try:
            pool.start(min(count, len(items)))
            while pool.left:
                yield from pool.wait()
        finally:
            pool.stop()


class _Pool(Generic[T, R]):
    """The workers, and which items are still to be done."""

    def __init__(self, ray: Any, make: Callable[[], Callable[[T], R]], items: Sequence[T], cluster: Cluster) -> None:
        self._ray, self._items = ray, items
        self._make = ray.put(make)
        self._class = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_restarts=0)(_Worker)
        every = range(len(items))
        # stretches of indices
        self._waiting: deque[Sequence[int]] = deque(every[i : i + _STRETCH] for i in range(0, len(items), _STRETCH))
        self._staff: list[_Seat] = []
        self._seats: dict[Any, _Seat] = {}  # what is awaited -> whose it is
        self._deaths: Counter[int] = Counter()
        self.left = len(items)

    def start(self, count: int) -> None:
        for _ in range(count):
            self._hire()

    def _hire(self) -> None:
        seat = _Seat(self._class.remote(self._make, os.getcwd()))
        self._staff.append(seat)
        self._seats[seat.actor.ready.remote()] = seat

    def wait(self) -> Iterator[tuple[T, R]]:
        """What is done by now, at least after some time."""
        done, _ = self._ray.wait(list(self._seats), num_returns=1, timeout=_WAIT)
        if not done and not any(seat.up for seat in self._staff):
            log.warning("no worker has started yet: the cluster has no free cores (or GPUs)")
        for awaited in done:
            if (seat := self._seats.pop(awaited, None)) is not None:  # None: of a worker that is known to be dead
                yield from self._take(seat, awaited)

    def _take(self, seat: _Seat, awaited: Any) -> Iterator[tuple[T, R]]:
        try:
            answer = self._ray.get(awaited)
        except self._ray.exceptions.RayActorError:
            self._replace(seat)
            return
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error  # an error that nobody foresaw, as if it had been raised here
        if not seat.up:
            seat.up = True
            self._feed(seat)
            return
        index = next(number for one, number in seat.items if one == awaited)
        seat.items = deque(pair for pair in seat.items if pair[1] != index)
        self._feed(seat)  # before the caller takes the result: the worker goes on meanwhile
        result, said = answer
        for name, level, message in said:
            logging.getLogger(name).log(level, "%s", message)
        if isinstance(result, XaiError):
            raise result
        self.left -= 1
        yield self._items[index], result

    def _feed(self, seat: _Seat) -> None:
        while len(seat.items) < _AT_ONCE and (seat.own or self._waiting):
            if not seat.own:
                seat.own.extend(self._waiting.popleft())
            index = seat.own.popleft()
            awaited = seat.actor.do.remote(self._items[index])
            seat.items.append((awaited, index))
            self._seats[awaited] = seat

    def _replace(self, dead: _Seat) -> None:
        """Give a dead worker's items to others, and start one in its place."""
        for awaited, _ in dead.items:
            self._seats.pop(awaited, None)
        lost = [index for _, index in dead.items]
        if lost:
            self._deaths[lost[0]] += 1
            if self._deaths[lost[0]] >= _DEATHS:
                raise XaiError(f"{self._items[lost[0]]}: {_DEATHS} workers died over it; is there enough memory?")
            log.warning("a worker died; what it had under way is done again")
        else:
            self._deaths[_AT_START] += 1
            if self._deaths[_AT_START] >= _DEATHS:
                raise XaiError("workers die when they start; Ray's logs (/tmp/ray/session_latest/logs) say why")
        if again := [*lost, *dead.own]:
            self._waiting.appendleft(again)
        self._staff.remove(dead)
        for seat in self._staff:  # who had nothing left to do
            if seat.up:
                self._feed(seat)
        self._hire()

    def stop(self) -> None:
        """End all workers."""
        for seat in self._staff:
            with contextlib.suppress(Exception):  # Ray itself may have been stopped
                self._ray.kill(seat.actor)


@contextlib.contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[int]:
    """A connection to the cluster, which ends with this call unless the program had one. Yields the number of workers.

    Raises:
        XaiError: It can't be reached, or has too few cores or GPUs for one worker.
    """
    own = not ray.is_initialized()
    if own:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        cores = max((cluster.workers or 1) * cluster.cpus, os.cpu_count() or 1)
        try:
            if cluster.address == LOCAL:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
                ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=_STORE, **quiet)
            else:
                ray.init(cluster.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise XaiError(f"--ray {cluster.address}: can't be reached ({reason})") from None
    try:
        there = ray.cluster_resources()
        fitting = int(there.get("CPU", 0) // cluster.cpus)
        if cluster.gpus:
            fitting = min(fitting, int(there.get("GPU", 0) // cluster.gpus))
        if not fitting:
            raise XaiError(
                f"--ray {cluster.address}: a worker takes {cluster.cpus} cores and {cluster.gpus} GPUs, and the cluster has "
                f"{there.get('CPU', 0):.0f} and {there.get('GPU', 0):.0f}"
            )
        yield min(cluster.workers or fitting, fitting)
    finally:
        if own:
            ray.shutdown()
