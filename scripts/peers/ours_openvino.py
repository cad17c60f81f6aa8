"""xai-deploy on OpenVINO."""

from __future__ import annotations

from . import ours
from .base import Case, Jobs

TITLE = "xai-deploy, OpenVINO"
REQUIREMENTS = ("xai-deploy", "numpy", "openvino")
COUNTERPARTS = ours.COUNTERPARTS


def jobs(case: Case) -> Jobs:
    """See `base.Adapter`."""
    return ours.jobs("openvino", case)
