"""A web page around fused graphs: static files that explain pictures in the browser."""

from .ortweb import runtime_files
from .samples import read_samples
from .site import check_site, write_site

__all__ = ["check_site", "read_samples", "runtime_files", "write_site"]
