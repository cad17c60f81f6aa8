"""The opened graphs of a bundle, and what is computed once per network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .backends.backend import Session, Tensor, to_host
from .detections import DetectionLimits
from .errors import NonFiniteOutputError, OptionError, WrongResultError
from .faithful import how_wrong
from .format.bundle import (
    ACTIVATION,
    DENSE,
    GRADIENT,
    LOGITS,
    PIXEL_LOGITS,
    SCORE_GRADIENT,
    SHARES,
    Manifest,
    at_level,
    between,
    role_at,
)
from .foundation.paths import described

Array = NDArray[np.float32]
V = TypeVar("V")


class lazy(Generic[V]):
    """A property that is computed once.

    Unlike `functools.cached_property` before Python 3.12, it takes no lock. A lock would hold back the forward passes of all other
    threads.
    """

    def __init__(self, compute: Callable[[Any], V]) -> None:
        self._compute = compute

    def __get__(self, instance: object, owner: type) -> V:
        value = self._compute(instance)
        # Without a `__set__` in this class, Python finds the instance's own entry first from now on.
        instance.__dict__[self._compute.__name__] = value
        return value


class OpenedNetwork:
    """The opened graphs of a bundle, and what is computed once per network.

    Args:
        manifest: The bundle's manifest.
        session: Role -> opened graph.
        batch_size: The largest batch any graph is given.
        show_progress: Show progress bars at a terminal.
        runtime: Name and version of the runtime, for messages.
        precision: Its arithmetic.
        level: The layer that sees the network so, if it is cut at several.
        limits: Which rows of a detector are detections; None: see `DetectionLimits`.

    Attributes:
        levels: The network as each layer sees it, this one being the first.
        activation: The name of the layer's activation.
    """

    def __init__(
        self,
        manifest: Manifest,
        session: Callable[[str], Session],
        batch_size: int,
        show_progress: bool,
        runtime: str = "the runtime",
        precision: str = "f32",
        level: int = 0,
        limits: DetectionLimits | None = None,
    ) -> None:
        self.between = tuple(port.name for port in between(manifest))
        if not isinstance(limits, DetectionLimits | None):
            raise OptionError(f"detections are DetectionLimits; got {described(limits)}")
        self._further: tuple[OpenedNetwork, ...] = ()
        if manifest.levels and level == 0:
            self._further = tuple(
                OpenedNetwork(manifest, session, batch_size, show_progress, runtime, precision, further, limits)
                for further in range(1, len(manifest.layers))
            )
        self.activation, self.limits = at_level(ACTIVATION, level), limits or DetectionLimits()
        self.manifest = manifest.at(level) if manifest.levels else manifest
        self.session: Callable[[str], Session] = lambda role: session(role_at(role, level))
        self._of_images: dict[str, OpenedNetwork] = {}
        self.batch_size = batch_size
        self.show_progress = show_progress
        self.runtime, self.precision = runtime, precision
        self.proven: set[str] = set()  # roles whose logits were compared with head and tail
        self.sides = tuple(side.name for side in self.manifest.side)
        given = [LOGITS, *(output.tensor for output in manifest.outputs)]
        if any(port.name == SHARES for port in manifest.graphs[manifest.scoring].gives):
            given.append(SHARES)
        self.tail_outputs = tuple(dict.fromkeys(given))
        self.choices = self.manifest.choices

    @property
    def levels(self) -> tuple[OpenedNetwork, ...]:
        """The network at each layer."""
        return self, *self._further

    def of_image(self, name: str) -> OpenedNetwork:
        """The network as if the further image of this name were explained; see `Manifest.explaining`."""
        if name not in self._of_images:
            roles = self.manifest.roles_of(name)
            other = OpenedNetwork(
                self.manifest.explaining(name),
                lambda role: self.session(roles.get(role, role)),
                self.batch_size,
                self.show_progress,
                self.runtime,
                self.precision,
                limits=self.limits,
            )
            self._of_images.setdefault(name, other)
        return self._of_images[name]

    @lazy
    def no_seed(self) -> Array:
        """Zeros [batch_size,classes]. Every run for a class is fed some of these rows."""
        return np.zeros((self.batch_size, self.manifest.classes), np.float32)

    @property
    def is_dense(self) -> bool:
        """Whether the scores are those of regions."""
        return self.manifest.scores.by_region

    @lazy
    def classifier(self) -> Array:
        """The weight [classes,K] of the linear layer after the pooling. The row of a class is contiguous in memory.

        `pixelwise-tail` is that weight applied at each position, so unit vectors along K, laid out on the positions,
        give the weight back exactly, column by column, on any runtime.
        """
        channels, *places = self.manifest.target.shape
        count = math.prod(places)
        # Each position of a batch probes one channel, so a run probes up to h * w * batch_size of them.
        rows: list[Array] = []
        for start in range(0, channels, count * self.batch_size):
            units = np.arange(start, min(start + count * self.batch_size, channels))
            image, position = np.divmod(units - start, count)  # the place in the batch that probes each channel
            probe = np.zeros((image[-1] + 1, channels, count), dtype=self.manifest.target.dtype)
            probe[image, units, position] = 1
            logits = self.scores(
                "pixelwise-tail", {self.activation: probe.reshape(-1, channels, *places)}, PIXEL_LOGITS
            )
            rows.append(logits[image, position])  # [channels of this run, classes]
        return np.ascontiguousarray(np.concatenate(rows).T)

    def run(self, role: str, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        """Run one graph of the bundle."""
        return self.session(role).run(feeds, fetch)

    def scores(self, role: str, feeds: Mapping[str, Tensor], output: str) -> Array:
        """Run one graph and return its scores, [b, ..., classes] float32 on the host."""
        return self.checked(to_host(self.run(role, feeds, [output])[output]))

    def decode(self, head: Mapping[str, Tensor], regions: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        """A detector's rows, its own outputs, and the places that its TopK chose, on the host.

        The tails of all layers give them; the last layer's computes least.
        """
        last = self.levels[-1]
        taken = (last.activation, *last.sides) if len(self.levels) > 1 else tuple(head)
        fetch = [DENSE, *self.choices, *(name for name in last.tail_outputs if name != LOGITS)]
        results = last.run(self.manifest.scoring, {**{name: head[name] for name in taken}, **regions}, fetch)
        return {name: to_host(tensor) for name, tensor in results.items()}

    def cheapest(self, role: str, weights: Array) -> str:
        """The cheapest graph that gives what a role's graph gives.

        Args:
            role: The role.
            weights: What the walk back begins with, [n, ..., entries]. If it weighs no side of a box, the gradient of a detector's
                scores alone is the same.
        """
        alone = self.manifest.graphs.get(SCORE_GRADIENT) if role == GRADIENT else None
        return role if alone is None or weights[..., alone.weighs :].any() else SCORE_GRADIENT

    def prove(self, role: str, got: NDArray[Any], want: NDArray[Any]) -> None:
        """Compare a graph's own logits with those of head and tail, once per opened graph.

        Raises:
            WrongResultError: The logits differ by more than rounding explains.
        """
        how = how_wrong(got, want, self.manifest, self.precision)
        if how is not None:
            raise WrongResultError(
                f"{self.runtime} computes the graph {role!r} wrongly: {how}; it gives no map. Use another backend, or "
                "export again with the newest xai-export"
            )
        self.proven.add(role)

    def checked(self, scores: NDArray[Any]) -> Array:
        """The scores [..., classes] as float32. Their sizes have been compared with the manifest (`guarded_session`).

        Raises:
            NonFiniteOutputError: A score is NaN or infinity.
        """
        if not np.isfinite(scores).all():
            raise NonFiniteOutputError(
                "the network's logits hold NaN or infinity; is the input preprocessed as it expects?"
            )
        return np.asarray(scores, np.float32)
