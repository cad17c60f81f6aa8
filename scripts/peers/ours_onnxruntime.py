"""xai-deploy on ONNX Runtime."""

from __future__ import annotations

from . import ours
from .counterpart import Case, Jobs

TITLE = "xai-deploy, ONNX Runtime"
REQUIREMENTS = ("xai-deploy", "numpy", "onnxruntime")
COUNTERPARTS = ours.COUNTERPARTS


def jobs(case: Case) -> Jobs:
    """See `counterpart.Adapter`."""
    return ours.jobs("onnxruntime", case)
