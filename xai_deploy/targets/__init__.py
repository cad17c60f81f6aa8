"""The targets of an explanation: one file for each kind (class, contrast, not, weights, ...), found by name."""

from .contrast import Contrast
from .kinds import CheckedTarget, One, ScoreSpace, Target, TargetValue, kinds, read
from .negated import Not
from .seeds import Seed

__all__ = ["CheckedTarget", "Contrast", "Not", "One", "ScoreSpace", "Seed", "Target", "TargetValue", "kinds", "read"]
