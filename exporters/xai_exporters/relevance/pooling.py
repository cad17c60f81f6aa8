"""Poolings: averages share out in proportion to x+, maxima give all to the winner."""

from __future__ import annotations

from .fixed_rules import WINNERS, WinnerTakesAll
from .layer_rules import Proportional
from .table import relevance

relevance("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Resize")(Proportional())
relevance(*WINNERS)(WinnerTakesAll())
