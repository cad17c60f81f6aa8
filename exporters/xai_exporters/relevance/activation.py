"""Elementwise functions of one tensor pass relevance as it is (Bach et al. 2015; Achtibat et al. 2024 for Gelu and the like)."""

from __future__ import annotations

from .fixed_rules import Pass
from .table import relevance

relevance("Relu", "LeakyRelu", "ThresholdedRelu", "PRelu", "Shrink", "Elu", "Celu", "Selu", "Clip")(Pass())
relevance("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Mish", "Swish", "Gelu", "Erf")(Pass())
relevance("Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Abs", "Neg", "Mod", "LogSoftmax")(Pass())
relevance("Sin", "Cos", "Tan", "Sinh", "Cosh", "Asin", "Acos", "Atan", "Asinh", "Acosh", "Atanh")(Pass())
