"""Measure explanations: how well a map shows the pixels that the network used, and where the object is (extra `evaluate`).

from xai_deploy.evaluation import evaluate
results = evaluate("resnet50.xai", "val/", methods=["grad-cam", "reciprocam"], out="scores")
"""

from ..foundation.journal import Journal
from .metrics import metrics as _metrics
from .plan import Plan
from .run import measure
from .session import Results, evaluate, evaluate_into
from .subjects import Subject

__all__ = ["Journal", "Plan", "Results", "Subject", "evaluate", "evaluate_into", "measure", "metric_names"]


def metric_names() -> tuple[str, ...]:
    """The names of all metrics."""
    return tuple(_metrics)
