"""The metrics of a map, one file per family, found by name."""

from .metric import Case, Column, Metric, create, metrics

__all__ = ["Case", "Column", "Metric", "create", "metrics"]
