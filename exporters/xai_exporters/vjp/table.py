"""The table of gradient rules."""

from __future__ import annotations

from ..rules import RuleTable

vjp = RuleTable("xai_exporters.vjp")
