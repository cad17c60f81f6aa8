"""Training side of xai-deploy: trained network -> bundle."""

from xai_deploy.version import __version__ as __version__

from .errors import ExportError
from .export_result import Export
from .pipeline import export, list_layers
from .request import Request

__all__ = ["Export", "ExportError", "Request", "export", "list_layers"]
