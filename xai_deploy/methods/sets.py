"""Sets of methods that a user may name in place of a method: "all" and "fast"."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import get_args

from ..errors import OptionError
from ..format.bundle import Manifest
from ..foundation.options import Named
from .across import EACH, at_each
from .method import MethodSet, applicable, create, left_out

log = logging.getLogger(__name__)


def expanded(given: Sequence[Named], manifests: Sequence[Manifest]) -> list[Named]:
    """Replace "all" and "fast" by their methods, and say in one line which ones a set leaves out, and why.

    A method with combine=each becomes several, one for each layer at which the first bundle is cut.

    Args:
        given: Names and options.
        manifests: The bundles' manifests; a set holds the methods whose graphs all of them have.

    Returns:
        Each method with its options once, in the order given.

    Raises:
        OptionError: A set is given options.
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
        if options:
            raise OptionError(f"{name}: is a set of methods and takes no options; name the method")
        by_reason: dict[str, list[str]] = {}
        for left, reason in left_out(manifests, which).items():
            by_reason.setdefault(reason, []).append(left)
        if by_reason:
            parts = (f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
            log.warning("%s methods: left out are %s", which, "; ".join(parts))
        pairs += [(one, {}) for one in applicable(manifests, which)]
    return [pair for number, pair in enumerate(pairs) if pair not in pairs[:number]]


def each_layer(name: str, options: Mapping[str, object], manifest: Manifest) -> list[Named]:
    """A method at each layer at which a bundle has its graphs, by itself.

    Raises:
        NotApplicableError: There is no such layer.
    """
    rest = {key: value for key, value in options.items() if key != "combine"}
    return [(name, own) for own in at_each(name, create(name, rest), rest, manifest)]
