"""The target for images: its seeds are read, and mutations of each end as they should."""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from fuzzing.target import load, mutated

from xai_deploy import XaiError

images = load("images")


def test_seeds_are_read() -> None:
    refused = []
    for number, data in enumerate(images.seeds()):
        try:
            images.one(data)
        except XaiError as error:
            refused.append((number, str(error)))
    assert not refused


def test_mutations() -> None:
    """No exception but ours."""
    rng, refused = random.Random(12), 0
    for _ in range(400):
        try:
            images.one(mutated(images, images.seeds(), rng))
        except XaiError:
            refused += 1
    assert 100 < refused < 400
