"""Layers with weights that no composite gives a rule: they have the zero rule."""

from __future__ import annotations

from .layer_rules import Zero
from .table import relevance

relevance("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")(Zero())
