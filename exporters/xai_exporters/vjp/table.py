"""The table of gradient rules."""

from __future__ import annotations

from ..backward.rules import RuleTable

vjp = RuleTable("xai_exporters.vjp")
