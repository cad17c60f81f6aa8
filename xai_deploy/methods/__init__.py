"""The explanation methods, one file each, found by name."""

from .base import Forward, Method, create, methods

__all__ = ["Forward", "Method", "create", "methods"]
