"""The targets of an explanation: one file for each kind (class, contrast, not, weights, ...), found by name."""

from .box import Box
from .contrast import Contrast
from .finer import Finer
from .kinds import CheckedTarget, One, ScoreSpace, Target, TargetValue, kinds, read, read_one
from .negated import Not
from .places import Place, Seen
from .region import Region
from .seeds import Seed
from .settled import Settled
from .similarity import Like

__all__ = [
    "Box",
    "CheckedTarget",
    "Contrast",
    "Finer",
    "Like",
    "Not",
    "One",
    "Place",
    "Region",
    "ScoreSpace",
    "Seed",
    "Seen",
    "Settled",
    "Target",
    "TargetValue",
    "kinds",
    "read",
    "read_one",
]
