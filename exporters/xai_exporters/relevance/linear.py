"""Layers with weights, where no composite says which rule they have."""

from __future__ import annotations

from .layer_rules import Zero
from .table import relevance

relevance("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum")(Zero())
