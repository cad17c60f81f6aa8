"""The networks under evaluation: each bundle on each backend, and the randomised bundles in the same folder as the bundle."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..caveats import warn_of
from ..errors import XaiError
from ..explainer import Explainer
from ..format.randomised import step_of_name
from ..foundation.printable import printable

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network under evaluation.

    Attributes:
        name: Its name in tables; distinct.
        explainer: The network on its runtime.
        randomised: For `sanity`: the same network with more and more random weights.
    """

    name: str
    explainer: Explainer
    randomised: Sequence[Explainer] = ()

    def identity(self) -> dict[str, Any]:
        """Everything of the network that its figures depend on, as JSON."""
        explainer = self.explainer
        return {
            "name": self.name,
            "digest": explainer.bundle.manifest.digest,
            "backend": explainer.backend,
            "runtime": explainer.backend_version,
            "device": explainer.device,
            "precision": explainer.precision,
            "batch": explainer.batch_size,
            "threads": explainer.threads,
            **({} if explainer.network.kind != "rows" else {"detections": dataclasses.asdict(explainer.limits)}),
            "randomised": [other.bundle.manifest.digest for other in self.randomised],
        }


def require_same_network(subject: Subject, wanted: Mapping[str, Any]) -> None:
    """Refuse a network in a worker that is not the driver's.

    Args:
        subject: The worker's.
        wanted: The driver's `identity`.

    Raises:
        XaiError: They differ.
    """
    own = subject.identity()
    if different := [key for key in wanted if own.get(key) != wanted[key]]:
        raise XaiError(
            f"{subject.name}: on {socket.gethostname()} it differs in {', '.join(different)} from the driver's; install the same "
            "versions, and share one folder of bundles"
        )


def open_subjects(
    bundles: Sequence[str],
    backends: Sequence[str | None],
    opened: Callable[[str, str | None], Explainer],
    randomised: bool,
) -> list[Subject]:
    """Every bundle on every backend, each once.

    Args:
        bundles: Their paths.
        backends: Their names; None: the first that is installed.
        opened: (bundle, backend) -> explainer.
        randomised: Also open the randomised bundles in the same folder as each bundle.

    Raises:
        XaiError: A bundle, its randomised bundles or a backend can't be used.
    """
    bundles, backends = list(dict.fromkeys(bundles)), list(dict.fromkeys(backends))
    subjects = []
    for bundle in bundles:
        paths = [bundle, *(_randomised(bundle) if randomised else ())]
        for backend in backends:
            made = [opened(path, backend) for path in paths]  # the trained network, then its randomised ones
            _check_randomised(made)
            if backend == backends[0]:  # warn once per bundle
                warn_of(made[0], bundle)
            name = _name(bundle, bundles) + f" ({made[0].backend})" * (len(backends) > 1)
            subjects.append(Subject(name, made[0], made[1:]))
    return subjects


def _name(bundle: str, bundles: Sequence[str]) -> str:
    """The folder's name; the path if several bundles have this name."""
    names = [Path(other).name.removesuffix(".xai") for other in bundles]
    own = Path(bundle).name.removesuffix(".xai") or bundle
    return bundle if names.count(own) > 1 else own


def warn_of_classes(subjects: Sequence[Subject]) -> None:
    """Log which networks have another number of classes than the first; a class index then means different classes."""
    first, *others = subjects
    classes = first.explainer.bundle.manifest.classes
    for subject in others:
        if (count := subject.explainer.bundle.manifest.classes) != classes:
            log.warning(
                "%s has %d classes, %s has %d: their maps are not compared; give --target LABEL to explain the same class",
                printable(subject.name),
                count,
                printable(first.name),
                classes,
            )


def _randomised(bundle: str) -> list[str]:
    """The bundles that xai-export --randomise wrote in this bundle's folder, in the order of their steps.

    If there are several complete sets, the set with the most steps is taken.

    Raises:
        XaiError: There is an incomplete set, and no complete one.
    """
    path = Path(os.path.abspath(bundle))
    sets: dict[int, dict[int, str]] = {}  # number of steps -> step -> path
    for sibling in path.parent.iterdir() if path.parent.is_dir() else ():
        if (step_of := step_of_name(path.name, sibling.name)) is not None:
            step, of = step_of
            sets.setdefault(of, {})[step] = str(sibling)
    whole = [of for of, steps in sets.items() if sorted(steps) == list(range(1, of + 1))]
    if sets and not whole:
        of = max(sets)
        raise XaiError(f"{bundle}: only {len(sets[of])} of its {of} randomised bundles exist; export it again")
    if len(sets) > 1:
        log.warning(
            "%s: has randomised bundles of %s steps; the metric sanity uses those of %d",
            printable(bundle),
            " and of ".join(map(str, sorted(sets))),
            max(whole),
        )
    return [steps for _, steps in sorted(sets[max(whole)].items())] if whole else []


def _check_randomised(made: Sequence[Explainer]) -> None:
    """Refuse randomised bundles that were not made from the first network.

    Raises:
        XaiError: A manifest says another step, seed, layer, input or network.
    """
    own = made[0].bundle.manifest
    seeds = set()
    for step, explainer in enumerate(made[1:], 1):
        manifest = explainer.bundle.manifest
        random = manifest.randomised
        fits = (manifest.input, manifest.layers, manifest.classes) == (own.input, own.layers, own.classes)
        if random is None or (random.step, random.of) != (step, len(made) - 1) or not fits:
            raise XaiError(
                f"{explainer.bundle.path}: is not step {step} of {len(made) - 1} of randomising {made[0].bundle.path}; export "
                "both again with --randomise"
            )
        # "": the manifest does not say which network was randomised
        if random.trained not in ("", own.network):
            raise XaiError(
                f"{explainer.bundle.path}: was made from other weights than those of {made[0].bundle.path}; export both again with "
                "--randomise"
            )
        seeds.add(random.seed)
    if len(seeds) > 1:
        raise XaiError(
            f"{made[0].bundle.path}: its randomised bundles were made with different seeds; export them again"
        )
