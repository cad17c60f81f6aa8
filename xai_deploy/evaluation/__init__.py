"""Measuring explanations: how well a map tells what the network used, and where the object is (extra `evaluate`)."""

from .journal import Journal
from .metrics import metrics as _metrics
from .run import Plan, Subject, evaluate

__all__ = ["Journal", "Plan", "Subject", "evaluate", "metric_names"]


def metric_names() -> tuple[str, ...]:
    """The names of all metrics."""
    return tuple(_metrics)
