"""Training side of xai-deploy: trained network -> bundle."""

from .errors import ExportError
from .pipeline import Export, export, list_layers
from .request import Request

__all__ = ["Export", "ExportError", "Request", "export", "list_layers"]
__version__ = "0.1.0"
