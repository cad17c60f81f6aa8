"""Explain image networks as they are deployed: numpy and one inference runtime, no training framework.

from xai_deploy import Explainer
explanation = Explainer("resnet50.xai").explain(image, method="reciprocam")
"""

from .foundation import starting as _starting  # before what takes long  # noqa: F401

# isort: split
from .detections import Detection, DetectionLimits
from .errors import XaiError
from .explainer import Explainer
from .explanation import Explanation
from .format.bundle import Bundle, Manifest
from .images import read_image, write_image
from .methods import methods as _methods
from .targets import Box, Contrast, Finer, Like, Not, Region
from .version import __version__ as __version__

__all__ = [
    "Box",
    "Bundle",
    "Contrast",
    "Detection",
    "DetectionLimits",
    "Explainer",
    "Explanation",
    "Finer",
    "Like",
    "Manifest",
    "Not",
    "Region",
    "XaiError",
    "backend_names",
    "method_names",
    "read_image",
    "write_image",
]


def method_names() -> tuple[str, ...]:
    """The names of all explanation methods."""
    return tuple(_methods)


def backend_names() -> tuple[str, ...]:
    """The names of all backends, installed or not."""
    from .backends import backends

    return tuple(backends)
