"""A web page around fused graphs: static files that explain pictures in the browser."""

from .ortweb import runtime_files
from .site import check_site, write_site

__all__ = ["check_site", "runtime_files", "write_site"]
