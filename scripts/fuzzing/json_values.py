"""Changes of a JSON document's values."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 65535, 65536, 2**20, 2**31 - 1, 2**31, 2**40, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63),
    0.0, -0.0, 0.5, 1e-320, 1e308, float("inf"), float("nan"), "", "x", "head", "activation", "logits", "../x", "a\0b", "\ud800",
    "x" * 70_000, [], {}, [[]], [0], [1, 1, 1], {"": ""},
)  # fmt: skip


def mutate_json(document: Any, rng: random.Random) -> Any:
    """The document with one to three values replaced, removed, doubled, exchanged or scaled."""
    changed = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = _places(changed)
        if not places:
            return changed
        container, key = rng.choice(places)
        change = rng.randrange(8)
        if change <= 2:
            container[key] = copy.deepcopy(rng.choice(_VALUES))
        elif change == 3 and type(container[key]) in (int, float):
            container[key] = rng.choice(
                (container[key] * 2, -container[key], container[key] + 1, container[key] * 1000, container[key] - 1)
            )
        elif change == 4:
            other, place = rng.choice(places)
            container[key] = copy.deepcopy(other[place])
        elif change == 5 and isinstance(container, list):
            container.extend(copy.deepcopy(container[key]) for _ in range(rng.choice((1, 2, 100, 5000))))
        elif change == 6 and isinstance(container, dict):
            container[rng.choice(("", "x", "head", "tail", "input", "shape", str(key) * 2))] = container.pop(key)
        else:
            del container[key]
    return changed


def dumps(document: Any) -> bytes:
    """The document as bytes; infinities and lone surrogates as Python writes them."""
    return json.dumps(document, indent=1).encode("utf-8", "surrogatepass")


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    places, pending = [], [document]
    while pending:
        value = pending.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            pending.append(value[key])
    return places
