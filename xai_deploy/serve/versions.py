"""Bundles that are served: opened, warmed up, measured, and replaced while requests run."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..beside import noise
from ..errors import BundleError, ClosedError, NotApplicableError, XaiError
from ..explainer import Explainer
from ..format.bundle import MANIFEST, MANIFEST_LIMIT
from ..format.plain_files import read_plain
from ..foundation import progress
from ..foundation.options import title_of
from ..methods.method import Method
from ..preprocess import Prepared
from ..targets import Seed, Settled
from .asked import checked_method, times
from .limits import Limits
from .refusals import NOT_FOUND, NOT_READY, Refusal
from .targets import Targets

log = logging.getLogger(__name__)

_KEPT = 500  # costs of options that requests chose
_NEW = 0.2  # share of a new measurement in a cost
_HALF = 5.0  # seconds without a run after which half of what was above the least cost is left
_FAST = 1.0  # seconds up to which a method is run for a full batch, too
_SLOW = 5.0  # seconds from which it is run once alone
MARGIN = 1.5
"""A run may take so much longer than it usually does."""

PREDICTION = "prediction"


@dataclass
class _Cost:
    """Seconds per image of one thing: as expected now, the least ever measured, and when it was measured last."""

    seconds: float
    least: float
    at: float


class Costs:
    """Seconds per image of everything that was run, as measured: at start-up first, then with every run.

    What is refused because it takes too long is not run, so it is not measured again either. A run that something held up would
    refuse all that follow, for ever. So what is above the least that was ever measured fades with time.
    """

    def __init__(self) -> None:
        self._costs: OrderedDict[str, _Cost] = OrderedDict()
        self._lock = threading.Lock()

    def measured(self, title: str, seconds: float) -> None:
        """Take a measurement into account: at once if it is longer, a part of it if it is shorter."""
        now = time.monotonic()
        with self._lock:
            old = self._costs.get(title)
            if old is None:
                self._costs[title] = _Cost(seconds, seconds, now)
            else:
                before = _faded(old, now)
                expected = before + _NEW * (seconds - before) if seconds < before else seconds
                self._costs[title] = _Cost(expected, min(seconds, old.least), now)
            self._costs.move_to_end(title)
            while len(self._costs) > _KEPT:
                self._costs.popitem(last=False)

    def at_most(self, other: Costs) -> None:
        """Take the other costs where they are shorter: what was measured beside requests that ran took longer than a run will."""
        now = time.monotonic()
        with self._lock:
            for title, own in self._costs.items():
                seconds, least = other.known(title), other.least(title)
                if seconds is not None and least is not None:
                    self._costs[title] = _Cost(min(_faded(own, now), seconds), min(own.least, least), now)

    def known(self, title: str) -> float | None:
        """Seconds per image that are to be expected now, or None."""
        with self._lock:
            cost = self._costs.get(title)
            return None if cost is None else _faded(cost, time.monotonic())

    def least(self, title: str) -> float | None:
        """The least seconds per image that were ever measured, or None."""
        with self._lock:
            cost = self._costs.get(title)
            return None if cost is None else cost.least


def _faded(cost: _Cost, now: float) -> float:
    """What is expected after a time without a measurement: half of what is above the least is left after `_HALF` seconds."""
    return cost.least + (cost.seconds - cost.least) * float(0.5 ** ((now - cost.at) / _HALF))


class Version:
    """One opened bundle. It is closed when it has been replaced and its last request is answered.

    Args:
        explainer: The opened bundle.
        served: The methods that requests may name, with the options that the server fixes.
        limits: The server's.
    """

    def __init__(self, explainer: Explainer, served: Mapping[str, Mapping[str, str]], limits: Limits) -> None:
        self.explainer = explainer
        self.manifest = explainer.bundle.manifest
        self.served = served
        self.targets = Targets(explainer, limits)
        self.costs = Costs()
        self._limits = limits
        self._users, self._retired = 0, False
        self._lock = threading.Lock()

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return self.manifest.digest

    @property
    def number(self) -> str:
        """What V2 calls its version: the beginning of the digest."""
        return self.digest.removeprefix("sha256:")[:12]

    def method(self, name: object, options: Mapping[str, Any]) -> tuple[str, Method, dict[str, Any]]:
        """A method that a request names; None: the first that is served. Also its options, the server's included.

        Raises:
            MethodError: See `asked.checked_method`.
        """
        chosen = next(iter(self.served)) if name is None else name
        own = {**self.served.get(str(chosen), {}), **options}
        return str(chosen), checked_method(chosen, options, self.served, self._limits), own

    def cost(self, name: str | None, method: Method | None, options: Mapping[str, Any], least: bool = False) -> float:
        """Seconds per image that a run takes: as measured with these options, or estimated from the method's own.

        Args:
            name: The method; None: a prediction.
            method: The same, created.
            options: Its options.
            least: The least that it ever took, not what is to be expected now.
        """
        of = self.costs.least if least else self.costs.known
        if name is None or method is None:
            known = of(PREDICTION)
        else:
            known = of(title_of(name, options))
            if known is None and (own := of(title_of(name, self.served[name]))) is not None:
                known = own * times(method, self.method(name, {})[1])
        return MARGIN * (known or 0.0)

    def warm_up(self) -> None:
        """Run everything that is served, and measure it: the first run opens graphs, the second one counts.

        Raises:
            XaiError: Something can't be run: the bundle is not served.
        """
        manifest, batch = self.manifest, self.explainer.batch_size
        grey = np.full((1, *manifest.input.image_shape), 0.1).astype(manifest.input.dtype)
        one = Prepared(grey, noise(manifest, 1))
        every = Prepared(np.repeat(grey, batch, axis=0), noise(manifest, batch))
        _run(self.explainer, one)
        _run(self.explainer, every)
        started = time.perf_counter()
        _run(self.explainer, one)
        self.costs.measured(PREDICTION, time.perf_counter() - started)
        for name, options in self.served.items():
            self._measure(name, options, one, every)
        log.info(
            "%s: %s", manifest.name, ", ".join(f"{name} {1e3 * self.cost_of(name):.0f} ms" for name in self.served)
        )

    def cost_of(self, name: str) -> float:
        """Seconds per image of a method as the server serves it."""
        return self.costs.known(title_of(name, self.served[name])) or 0.0

    def _measure(self, name: str, options: Mapping[str, str], one: Prepared, every: Prepared) -> None:
        seconds = 0.0
        for _ in range(2):
            started = time.perf_counter()
            self.explainer.explain_many(one, [(name, options)], [self._any_target(1)])
            seconds = time.perf_counter() - started
            if seconds > _SLOW:  # opening its graphs is a small part of it
                break
        self.costs.measured(title_of(name, options), seconds)
        if seconds <= _FAST:  # so that a full batch meets memory that is there already
            self.explainer.explain_many(every, [(name, options)], [self._any_target(len(every.x))])

    def _any_target(self, images: int) -> Any:
        """A target that every network of the kind has."""
        scores = self.manifest.scores
        match scores.kind:
            case "vector":
                return np.ones(self.manifest.classes)
            case "dense":
                return "@all"
            case "rows":  # the first row, since nothing may be found in a grey image
                first = np.eye(1, scores.shape[1], dtype=np.float32)
                return Settled(Seed.of_class(np.zeros(images, np.int64)), np.tile(first, (images, 1, 1)))
            case _:
                return None

    def enter(self) -> Version:
        """Count a request that uses it."""
        with self._lock:
            self._users += 1
        return self

    def leave(self) -> None:
        """Count a request off; close the bundle after the last one if it has been replaced."""
        with self._lock:
            self._users -= 1
            over = self._retired and not self._users
        if over:
            self.explainer.close()

    def retire(self) -> None:
        """Close the bundle once nobody uses it."""
        with self._lock:
            self._retired, over = True, not self._users
        if over:
            self.explainer.close()


class Models:
    """The bundles that a server serves, by name.

    Args:
        paths: Name -> the bundle's folder, or a model file.
        open_explainer: Opens one.
        methods: Name -> options of the methods that requests may name, for a bundle.
        limits: The server's.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        open_explainer: Callable[[Path], Explainer],
        methods: Callable[[Explainer], Mapping[str, Mapping[str, str]]],
        limits: Limits,
    ) -> None:
        self.paths = dict(paths)
        self._open, self._methods, self._limits = open_explainer, methods, limits
        self._current: dict[str, Version] = {}
        self._seen: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._opening: Explainer | None = None
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether all bundles are open and warm."""
        return self._current.keys() == self.paths.keys()

    @property
    def names(self) -> Sequence[str]:
        """The names, in the order of the command line."""
        return list(self.paths)

    def current(self, name: str) -> Version | None:
        """The version that serves a name now; None while it is not ready.

        Raises:
            Refusal: No bundle has this name.
        """
        if name not in self.paths:
            raise Refusal(NOT_FOUND, f"no model {name[:100]!r}; this server has {', '.join(self.paths)}")
        return self._current.get(name)

    def enter(self, name: str, number: str | None = None) -> Version:
        """The version that answers a request, counted as in use: call its `leave` after the answer.

        Raises:
            Refusal: No bundle has this name or this version, or it is not ready.
        """
        with self._lock:
            version = self.current(name)
            if version is None:
                raise Refusal(NOT_READY, f"{name}: is being opened; try again", 2)
            if number is not None and number != version.number:
                raise Refusal(NOT_FOUND, f"{name}: no version {number[:100]!r}; this server has {version.number}")
            return version.enter()

    def load(self, name: str) -> Version:
        """Open a bundle, warm it up, and let it answer from now on. The one that it replaces answers until then.

        Raises:
            XaiError: It can't be served; what was served is still served.
            ClosedError: `close` was called meanwhile.
        """
        with self._loading:
            seen = _manifest_of(self.paths[name])
            explainer = self._open(self.paths[name])
            try:
                with self._lock:
                    if self._closed:
                        raise ClosedError(f"{name}: the server stops")
                    self._opening = explainer
                served = self._methods(explainer)
                if not served:
                    raise NotApplicableError(f"{name}: its graphs allow none of the methods to be served")
                version = Version(explainer, served, self._limits)
                version.warm_up()
            except BaseException:
                explainer.close()
                raise
            finally:
                self._opening = None
            with self._lock:
                old = self._current.get(name)
                if old is not None:
                    version.costs.at_most(old.costs)
                self._current[name] = version
                self._seen[name] = seen
            if old is not None:
                old.retire()
            return version

    def reload(self, changed_only: bool) -> None:
        """Open the bundles again; one that can't be opened is logged, and its present version stays.

        Args:
            changed_only: Leave out those whose manifest is the one that is served.
        """
        for name in self.names:
            if changed_only and _manifest_of(self.paths[name]) in (b"", self._seen.get(name)):
                continue
            before = self._current.get(name)
            try:
                after = self.load(name)
            except ClosedError:
                return
            except Exception as error:  # whatever it is, the present version goes on answering
                said = (
                    str(error)
                    if isinstance(error, XaiError | OSError)
                    else f"unexpected {type(error).__name__}: {error}"
                )
                log.error("%s: not replaced: %s", name, said)
                self._seen[name] = _manifest_of(self.paths[name])  # one line for each change, not one for each look
                continue
            progress.log.info("%s: version %s replaces %s", name, after.number, before.number if before else "none")

    def close(self) -> None:
        """Close all bundles; one that is being opened stops at its next run."""
        with self._lock:
            self._closed, opening = True, self._opening
        if opening is not None:
            opening.close()
        for version in self._current.values():
            version.retire()


def _run(explainer: Explainer, images: Prepared) -> None:
    for _, forward in explainer.passes(images):
        assert forward.outputs  # the property runs the network


def _manifest_of(path: Path) -> bytes:
    """The bytes of a bundle's manifest; none of a model file, or if there is no bundle at this moment that can be opened."""
    try:
        return read_plain(path / MANIFEST, MANIFEST_LIMIT)
    except (OSError, BundleError):
        return b""
