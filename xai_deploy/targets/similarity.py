"""Similarity to a reference: s = r . y, the cosine of an embedding y of length 1 and a reference r of length 1."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, TargetError
from ..images.npy import read_numbers
from .contrast import Contrast
from .kinds import Plain, ScoreSpace, TargetValue, kinds
from .likes import references
from .negated import Not
from .seeds import Array, Seed


@dataclass(frozen=True, eq=False)
class Like(TargetValue):
    """How alike an image is to a reference.

    Attributes:
        reference: An image in any form that `Explainer.explain` takes, the path of one; or an embedding: floats [D], the path of an
            `.npy` file with one. A text's embedding or the mean of a class's embeddings is one, too.
    """

    needs: ClassVar[str] = "an embedding"

    reference: Any


@kinds.register("similarity")
@dataclass(frozen=True, eq=False)
class SimilarityTarget(Plain):
    """A `Like`, a text "like FILE", its other direction ("not like FILE"), or the contrast of two: "like A vs like B" asks why an
    image is nearer to A.

    Attributes:
        reference: [n,D] float32, of length 1, or the difference of two such vectors.
        said: What is explained, for people.
    """

    per_image: ClassVar[bool] = True
    scores: ClassVar[tuple[str, ...]] = ("vector",)

    reference: Array
    said: str

    @classmethod
    def read(cls, written: object, images: int, space: ScoreSpace) -> list[SimilarityTarget] | None:
        """See `TargetKind.read`."""
        value = _from_text(written, space) if isinstance(written, str) else written
        if isinstance(value, Contrast) and isinstance(value.target, Like) and isinstance(value.versus, Like):
            sides = [_vector(value.target, space), _vector(value.versus, space)]
            if np.array_equal(sides[0], sides[1]):
                raise TargetError("a reference is contrasted with itself")
            vector, said = sides[0] - sides[1], f"{_said(value.target)} vs {_said(value.versus)}"
        elif isinstance(value, Not) and isinstance(value.target, Like):
            vector, said = -_vector(value.target, space), f"not {_said(value.target)}"
        elif isinstance(value, Like):
            vector, said = _vector(value, space), _said(value)
        else:
            return None
        return [cls(np.tile(vector, (images, 1)), said)]

    @property
    def classes(self) -> None:
        """See `CheckedTarget.classes`."""
        return None

    @property
    def needs_logits(self) -> bool:
        """See `CheckedTarget.needs_logits`."""
        return False

    def part(self, start: int, stop: int) -> SimilarityTarget:
        """See `CheckedTarget.part`."""
        return SimilarityTarget(self.reference[start:stop], self.said)

    def seed(self, logits: Callable[[], Array]) -> Seed:
        """See `CheckedTarget.seed`."""
        return Seed.of_weights(self.reference)

    def titles(self, seed: Seed, label: Callable[[int], str], classes: int) -> tuple[str, ...]:
        """See `CheckedTarget.titles`."""
        return (self.said,) * len(self.reference)


def _from_text(text: str, space: ScoreSpace) -> object:
    named = references(text, space)
    if named is None:
        return None
    turned, (first, *second) = named
    if second:
        return Contrast(Like(first), Like(second[0]))
    return Not(Like(first)) if turned else Like(first)


def _said(like: Like) -> str:
    named = isinstance(like.reference, (str, os.PathLike))
    return f"like {Path(like.reference).name}" if named else "like a reference"


def _vector(like: Like, space: ScoreSpace) -> Array:
    """The reference [D] of length 1.

    Raises:
        TargetError: The network gives no embedding, or the reference is none.
    """
    if not space.normalised:
        raise TargetError(
            "the network's numbers are no embedding of length 1; export it with --task embedding to compare images"
        )
    reference = like.reference
    if isinstance(reference, (str, os.PathLike)):
        space.refuse_file(reference)
    if isinstance(reference, (str, os.PathLike)) and Path(reference).suffix.lower() == ".npy":
        try:
            reference = read_numbers(Path(reference))
        except InputError as error:
            raise TargetError(str(error)) from None
    elif not (isinstance(reference, np.ndarray) and reference.ndim == 1):
        assert space.embed is not None
        return space.embed(reference)
    what = f"the reference {like.reference}" if reference is not like.reference else "the reference"
    if (
        not isinstance(reference, np.ndarray)
        or reference.dtype.kind != "f"
        or reference.shape not in ((space.classes,), (1, space.classes))
    ):
        said = f"{reference.dtype} {list(reference.shape)}" if isinstance(reference, np.ndarray) else "several arrays"
        raise TargetError(f"{what} is {said}; an embedding of this network is floats [{space.classes}]")
    vector = reference.reshape(-1).astype(np.float64)
    length = float(np.linalg.norm(vector))
    if not 0 < length < np.inf:
        raise TargetError(f"{what} is zero or not finite: it has no direction")
    return np.asarray(vector / length, np.float32)
