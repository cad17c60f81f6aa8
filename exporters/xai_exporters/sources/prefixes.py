"""The weights of one network among those of a training module: "model.conv1.weight" is the network's "conv1.weight"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import ArchitectureError


def without_prefix(weights: Mapping[str, Any], names: Collection[str], path: Path) -> tuple[dict[str, Any], str | None]:
    """The weights under the prefix where most of the network's names are, and a line for people if there is a prefix.

    Lightning's checkpoints have the name of the attribute there ("model.", "net."), and beside it what else the training module
    holds: a loss's weights, metrics.

    Args:
        weights: The state dict.
        names: The network's own names.
        path: The file.

    Raises:
        ArchitectureError: Several networks in the file fit as well.
    """
    fitting = Counter(
        key[: len(key) - len(suffix)]
        for key in weights
        for suffix in (key, *(key[i + 1 :] for i, letter in enumerate(key) if letter == "."))
        if suffix in names
    )
    most = max(fitting.values(), default=0)
    best = [prefix for prefix, count in fitting.items() if count == most]
    if not most or "" in best:
        return dict(weights), None
    if len(best) > 1:
        raise ArchitectureError(
            f"{path}: several networks in it fit ({' and '.join(repr(prefix) for prefix in best[:3])}); save the weights of one "
            "alone, without the prefix"
        )
    prefix = best[0]
    kept = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    others = [key for key in weights if not key.startswith(prefix)]
    more = f"; left out: {', '.join(others[:3])}{f' and {len(others) - 3} more' if len(others) > 3 else ''}"
    return kept, f"The weights are those under {prefix!r}{more if others else ''}."
