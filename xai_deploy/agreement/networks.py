"""The two networks of a check: what they are, and what makes their maps differ although both are right."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..explainer import Explainer
from ..foundation.printable import printable
from .compare import Explained

log = logging.getLogger(__name__)


def warn_of_differences(reference: Explainer, deployed: Explainer) -> None:
    """Warn of differences between the bundles that make maps or predictions differ although both networks are right."""
    one, other = reference.bundle, deployed.bundle
    layers = [", ".join(layer.name for layer in bundle.manifest.layers) for bundle in (one, other)]
    shapes = [[layer.shape for layer in bundle.manifest.layers] for bundle in (one, other)]
    # Two names may mean the same layer; two names with different shapes can't.
    cut = one.manifest.is_cut and other.manifest.is_cut
    if cut and layers[0] != layers[1] and shapes[0] != shapes[1]:
        log.warning(
            "the reference is cut at %s, the deployed network at %s, so their maps differ for that reason alone",
            *map(printable, layers),
        )
    if one.labels and other.labels and one.labels != other.labels:
        log.warning("the networks' labels differ: a class of one may not be the same class of the other")


def warn_of_reference(names: Sequence[str], reference: Explained) -> None:
    """Warn of images that are the reference of a similarity themselves: at its largest, the cosine has no gradient."""
    if reference.gives == "embedding" and reference.target is not None:
        for name, cosine in zip(names, reference.target.seed.of(reference.logits), strict=True):
            if cosine > 1 - 1e-6:
                log.warning(
                    "%s: is what it is compared with: its cosine is 1, the largest, so its maps are rounding",
                    printable(name),
                )


def described(explainer: Explainer) -> dict[str, Any]:
    """A network in a report: name, digest, layer and runtime."""
    manifest = explainer.bundle.manifest
    return {
        "name": manifest.name,
        "digest": manifest.digest,
        "layer": ", ".join(layer.name for layer in manifest.layers),
        "runtime": f"{explainer.backend} on {explainer.device}, {explainer.precision}",
    }
