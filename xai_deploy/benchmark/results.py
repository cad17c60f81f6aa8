"""The results of a benchmark: one result per job, and the report of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tested:
    """A bundle: its path, the network's name, the layer it is cut at, the manifest's digest."""

    path: str
    name: str
    layer: str
    digest: str


@dataclass(frozen=True)
class LeftOut:
    """A method that was not measured, and why; `backend` is None if the reason holds for all backends."""

    bundle: str
    backend: str | None
    method: str
    reason: str


@dataclass(frozen=True)
class Result:
    """The cost of one job.

    Attributes:
        bundle: Path of the bundle; None for plain inference by the whole model.
        layer: The layer at which it is cut; None for the whole model.
        backend: Name of the backend.
        method: A method's name, or "plain".
        options: The method's options that were given.
        batch: How many images.
        targets: How many targets; None for plain inference.
        median_seconds: Median time of one call, with all images and all targets.
        iqr_seconds: Interquartile range; None for a single run.
        ratio: Median of the ratios to plain inference at the same batch in the same round.
        ratio_iqr: Interquartile range of these ratios; None for a single run.
        peak_bytes: Peak of the host's memory in a process of its own; None if it was not measured.
        extra_bytes: `peak_bytes` minus that of plain inference.
    """

    bundle: str | None
    layer: str | None
    backend: str
    method: str
    options: dict[str, Any]
    batch: int
    targets: int | None
    median_seconds: float
    iqr_seconds: float | None
    ratio: float
    ratio_iqr: float | None
    peak_bytes: int | None = None
    extra_bytes: int | None = None

    @property
    def title(self) -> str:
        """The method with its options, in the form of the command line."""
        return ":".join([self.method, *(f"{name}={value}" for name, value in self.options.items())])


@dataclass(frozen=True)
class Report:
    """The results of a benchmark, and how they were measured.

    Attributes:
        bundles: The bundles compared.
        plain: What plain inference runs: the model's path, or "head and tail of the bundle".
        input: What fills the batch: the image's path, or "noise".
        target: "given", or "predicted".
        device: As for `Explainer`.
        threads: As for `Explainer`.
        batch_size: The largest batch that any graph was given.
        runs: Number of timed rounds.
        warmup: Number of runs before them.
        versions: Package -> version: this package, Python, NumPy, and the runtimes.
        no_memory: Why there is no peak memory; None if it was measured.
        left_out: Methods that were not measured.
        results: One per job, by backend, method, targets, batch and bundle, the last varying fastest.
    """

    bundles: list[Tested]
    plain: str
    input: str
    target: str
    device: str
    threads: int | None
    batch_size: int
    runs: int
    warmup: int
    versions: dict[str, str]
    no_memory: str | None
    left_out: list[LeftOut]
    results: list[Result]

    def columns(self) -> dict[str, Callable[[Result], str]]:
        """Heading -> cell: the columns that distinguish the results of one backend. A value that all share is no column."""
        layers = {tested.path: tested.layer for tested in self.bundles}
        # If two bundles are cut at a layer of the same name, only their paths distinguish them.
        if len(set(layers.values())) < len(layers):
            layers = {path: path for path in layers}
        columns: dict[str, Callable[[Result], str]] = {"method": lambda result: result.title}
        if len(layers) > 1:
            columns["cut at"] = lambda result: layers.get(result.bundle or "", "-")
        if len({result.batch for result in self.results}) > 1:
            columns["batch"] = lambda result: str(result.batch)
        if len({result.targets for result in self.results if result.targets}) > 1:
            columns["targets"] = lambda result: str(result.targets or "-")
        return columns
