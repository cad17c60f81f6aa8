"""The table of what operators do with relevance if a composite says nothing else."""

from __future__ import annotations

from ..backward.rules import RuleTable

relevance = RuleTable("xai_exporters.relevance")
