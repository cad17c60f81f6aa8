"""A target of dense scores in all of the image, for images in which the network predicts its class nowhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .contrast import Contrast
from .finer import Finer
from .finer import from_text as finer_from_text
from .kinds import One, ScoreSpace
from .negated import Not
from .places import PREDICTED
from .region import Region
from .region import from_text as region_from_text


def everywhere(written: One, space: ScoreSpace) -> One:
    """The same target with all of the image for the places where the network predicts a class; other places stay.

    Args:
        written: A class, a `Region`, a `Contrast`, `Not` or `Finer` of these, or a text that stands for one.
        space: What the network scores.
    """
    value: object = written
    if isinstance(written, str):
        value = finer_from_text(written, space) or region_from_text(written, space)
    match value:
        case Contrast():
            return Contrast(everywhere(value.target, space), everywhere(value.versus, space))
        case Not():
            return Not(everywhere(value.target, space))
        case Finer():
            return replace(value, target=everywhere(value.target, space))
        case Region():
            word = isinstance(value.where, str) and value.where.strip() == PREDICTED.said
            return replace(value, where="all") if word or value.where is PREDICTED else value
        case None | int() | str():
            return Region(value, "all")
        case np.integer():
            return Region(int(value), "all")
    raise AssertionError(f"{type(value).__name__} is no target of dense scores")
