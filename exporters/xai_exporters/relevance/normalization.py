"""Normalisations: the factor counts as constant, and scaling by a constant passes relevance as it is.

(BatchNorm follows the code of Relevance-CAM, R x w / (x w + 1e-9); LayerNorm follows AttnLRP, proposition 3.4.)
"""

from __future__ import annotations

from .fixed_rules import Pass
from .table import relevance

relevance(
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization"
)(Pass())
relevance("MeanVarianceNormalization", "LpNormalization", "LRN")(Pass())
