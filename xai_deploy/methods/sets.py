"""Sets of methods that a user may name in place of a method: "all" and "fast"."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import get_args

from ..errors import OptionError
from ..format.bundle import Manifest
from ..foundation.options import Named, options_of
from .across import EACH, at_each, shown, without_layers
from .method import MethodSet, applicable, create, lacks, left_out

log = logging.getLogger(__name__)


def expanded(given: Sequence[Named], manifests: Sequence[Manifest], said: bool = True) -> list[Named]:
    """Replace "all" and "fast" by their methods, and log how many a set leaves out; which ones and why at the level INFO.

    A method with combine=each becomes several, one for each layer at which the first bundle is cut.

    Args:
        given: Names and options.
        manifests: The bundles' manifests; a set holds the methods whose graphs all of them have.
        said: Someone named the set, and may miss what it leaves out: the number is logged as a warning.

    Returns:
        Each method with its options once, in the order given.

    Raises:
        OptionError: A set is given options, other than `segments` for those of its methods that hide segments.
    """
    pairs: list[Named] = []
    for name, options in given:
        which = next((one for one in get_args(MethodSet) if one == name), None)
        if which is None and options.get("combine") == EACH:
            pairs += each_layer(name, options, manifests[0])
            continue
        if which is None:
            pairs.append((name, options))
            continue
        holds = [one for one in applicable(manifests, which) if "segments" in options_of(create(one, {}))]
        if options and (set(options) != {"segments"} or not holds):
            raise OptionError(f"{name}: is a set of methods and takes no options; name the method")
        by_reason: dict[str, list[str]] = {}
        for left, reason in left_out(manifests, which).items():
            by_reason.setdefault(reason, []).append(left)
        taken = applicable(manifests, which)
        if by_reason:
            parts = (f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
            every = len(taken) + sum(map(len, by_reason.values()))
            counted = f"{len(taken)} of {every}; -v says which are left out, and why"
            log.log(logging.WARNING if said else logging.INFO, "%s methods: %s", which, counted)
            log.info("%s methods: left out are %s", which, "; ".join(parts))
        pairs += [(one, options if one in holds else {}) for one in taken]
    return [pair for number, pair in enumerate(pairs) if pair not in pairs[:number]]


def each_layer(name: str, options: Mapping[str, object], manifest: Manifest) -> list[Named]:
    """A method at each layer at which a bundle has its graphs, by itself.

    Raises:
        NotApplicableError: There is no such layer.
    """
    return [(name, own) for own in at_each(name, create(name, without_layers(options)), options, manifest)]


def with_combine(pairs: Sequence[Named], combine: str, manifest: Manifest) -> list[Named]:
    """Methods, those that need a layer with this option unless they have it, or name a layer.

    If the layers show several images, each image has a map of its own layers, unless one is named.

    Raises:
        OptionError: The bundle has one layer, and nothing to put together.
    """
    if len(manifest.layers) == 1:
        raise OptionError(
            f"combine puts the maps of several layers together, and this bundle has one, {manifest.target.name}"
        )
    images = list(dict.fromkeys(layer.input or manifest.input.name for layer in manifest.layers))
    combined: list[Named] = []
    for name, options in pairs:
        if not create(name, without_layers(options)).needs_layer or options.keys() & {"combine", "layer"}:
            combined.append((name, options))
        elif len(images) == 1 or "image" in options or combine == EACH:
            combined.append((name, {**options, "combine": combine}))
        else:
            combined += [(name, {**options, "combine": combine, "image": image}) for image in images]
    return combined


def default_method(manifest: Manifest) -> str:
    """The method that is taken if none is named.

    ReciproCAM asks the tail once for each position of each layer, which a detector's fine layers have thousands of. It follows
    the logit of a row, which a detector that chooses its rows in each run does not have.
    """
    rows = manifest.scores.rows
    if rows is not None and "gradient" in manifest.graphs:
        return "layer-cam"
    return "rise" if rows is not None and (rows.chosen_inside or manifest.choices) else "reciprocam"


def rows(pairs: Sequence[Named], manifest: Manifest) -> list[Named]:
    """What tables of a bundle tell apart: a method at each of several layers, and all of them together."""
    if len(manifest.layers) == 1:
        return list(pairs)
    told: list[Named] = []
    for name, options in pairs:
        method = create(name, options)
        if not method.needs_layer or options.keys() & {"combine", "layer"}:
            told.append((name, options))
            continue
        layers = each_layer(name, options, manifest)
        told += [
            pair for pair in layers if shown(create(*pair), manifest) is None
        ]  # metrics change the image that is explained
        if lacks(method, manifest) is None:
            told.append((name, {**options, "combine": "max"}))
    return told
