"""An evaluation on a Ray cluster (extra `ray`): the figures of one machine, byte for byte.

Each worker opens the networks and measures chunks of images as one machine does: the same images in a batch, the same number of
threads, both on record in the journal. The driver keeps the journal and computes the figures. All machines need the bundles and the
images at the same paths, on shared storage, and the same versions; a worker whose networks or runtime differ is refused.

    from xai_deploy.evaluation import evaluate
    results = evaluate("resnet50.xai", "shards/", out="scores", ray="local", threads=1)

A program that opens its networks and makes its plan itself gives `measuring(...)` to `evaluate_into`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import XaiError
from ..explainer import Explainer
from ..foundation.cluster import Cluster, spread
from . import run
from .plan import Plan
from .run import Measured
from .subjects import Subject, open_subjects, require_same_network

__all__ = ["Cluster", "Recipe", "measuring"]


@dataclass(frozen=True)
class Recipe:
    """How each worker opens the networks; the arguments of `open_subjects`.

    Attributes:
        bundles: Their paths.
        backends: Names of backends; None: the first that is installed.
        opened: (bundle, backend) -> explainer. It is pickled, so it is a function of a module, or a `partial` of `Explainer`.
        randomised: Whether a metric needs the randomised bundles.
    """

    bundles: Sequence[str]
    backends: Sequence[str | None]
    opened: Callable[[str, str | None], Explainer]
    randomised: bool

    def subjects(self) -> list[Subject]:
        """The networks, opened."""
        return open_subjects(self.bundles, self.backends, self.opened, self.randomised)


@dataclass(frozen=True)
class _Task:
    """A chunk: its number and its images."""

    number: int
    images: tuple[Path, ...]

    def __str__(self) -> str:
        return f"chunk {self.number} ({self.images[0]} to {self.images[-1].name})"


@dataclass(frozen=True)
class _Work:
    """What a worker is made of: pickled by the driver, called once in each worker."""

    recipe: Recipe
    plan: Plan
    identities: Sequence[dict[str, Any]]

    def __call__(self) -> Callable[[_Task], tuple[list[Any], list[Any], frozenset[str]]]:
        subjects = self.recipe.subjects()
        for subject, wanted in zip(subjects, self.identities, strict=True):
            require_same_network(subject, wanted)

        def work(task: _Task) -> tuple[list[Any], list[Any], frozenset[str]]:
            rows, skipped = run.measure_chunk(subjects, self.plan, task.images)
            return rows, skipped, self.plan.boxes.cut_places if self.plan.boxes else frozenset()

        return work


def measuring(cluster: Cluster, recipe: Recipe) -> run.Measuring:
    """What `evaluate_into` and `measure` take to measure chunks on a cluster.

    Args:
        cluster: Where. Its `cpus` should be the explainers' number of threads, which has to be given.
        recipe: How the workers open the networks: as the driver did.
    """

    def measured(subjects: Sequence[Subject], plan: Plan, numbers: Sequence[int]) -> Iterator[Measured]:
        if any(subject.explainer.threads is None for subject in subjects):
            raise XaiError(
                "--ray: the explainers need a number of threads, for the last bit of a figure may depend on it"
            )
        tasks = [_Task(number, tuple(run.images_of(plan, number))) for number in numbers]
        # The list of all images is sent only if it says which row of a file belongs to an image.
        own = plan if plan.inputs else replace(plan, images=())
        work = _Work(recipe, own, [subject.identity() for subject in subjects])
        for task, (rows, skipped, cut) in spread(work, tasks, cluster):
            if plan.boxes is not None:
                plan.boxes.cut_places |= cut
            yield task.number, rows, skipped

    return measured
