"""xai-deploy on OpenVINO."""

from __future__ import annotations

from . import ours
from .counterpart import Case, Jobs

TITLE = "xai-deploy, OpenVINO"
REQUIREMENTS = ("xai-deploy", "numpy", "openvino")
COUNTERPARTS = ours.COUNTERPARTS


def jobs(case: Case) -> Jobs:
    """See `counterpart.Adapter`."""
    return ours.jobs("openvino", case)
