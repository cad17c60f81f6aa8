"""Manifests whose digest fits, or nearly: read, opened, explained from."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence

from xai_deploy.format.bundle import MANIFEST

from ..explaining import explain
from ..json_values import dumps, mutate_json
from ..material import bundle, copied_bundle
from ..mutations import mutate_bytes

_DIGEST = re.compile(rb'"digest": "[0-9a-f]*"')


def seeds() -> list[bytes]:
    """The small network's manifest."""
    return [(bundle() / MANIFEST).read_bytes()]


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Mostly values, with a digest that fits; sometimes bytes, with or without."""
    kind = rng.random()
    if kind < 0.1:
        return mutate_bytes(data, others, rng)
    if kind < 0.3:
        return _digested(mutate_bytes(data, others, rng))
    return _digested(dumps(mutate_json(json.loads(data), rng)))


def one(data: bytes) -> None:
    """Open the bundle and explain.

    Raises:
        XaiError: It is refused.
    """
    place = copied_bundle("manifests")
    (place / MANIFEST).write_bytes(data)
    explain(place, "onnxruntime", ["head", "gradient"])


def _digested(data: bytes) -> bytes:
    blank = _DIGEST.sub(b'"digest": ""', data)
    return blank.replace(b'"digest": ""', b'"digest": "' + hashlib.sha256(blank).hexdigest().encode() + b'"')
