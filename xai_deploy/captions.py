"""What an explanation explains, as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from .explained_network import ExplainedNetwork
from .foundation.printable import printable

SHOWN = 3
"""How many images' captions a line names."""


def caption(label: str, versus: str | None = None, sign: int = 1) -> str:
    """What a map explains, as people read it: "cat", "cat vs dog" or "not cat"."""
    if versus is not None:
        return f"{label} vs {versus}"
    return f"not {label}" if sign < 0 else label


def in_a_line(
    method: str,
    count: int,
    captions: Sequence[str],
    size: Sequence[int],
    layers: str | None,
    network: ExplainedNetwork,
) -> str:
    """An explanation in one line: method, images, what is explained, layer, network.

    Args:
        method: The method.
        count: The number of images.
        captions: What is explained in the first ones.
        size: The size of a map.
        layers: How several layers are put together; None for one layer.
        network: What is kept of the bundle.
    """
    said = [printable(one)[:40] for one in captions] + ["..."] * (count > SHOWN)
    layer, name = (printable(text)[:60] for text in (layers or network.layer.name, network.name))
    return (
        f"<Explanation {printable(method)[:60]}: {count} image{'s' * (count != 1)}, {', '.join(said)}; "
        f"map {' x '.join(map(str, size))} at {layer} of {name}>"
    )
