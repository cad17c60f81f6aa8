"""The explanation methods, one file each, found by name."""

from .method import Forward, Method, applicable, create, methods

__all__ = ["Forward", "Method", "applicable", "create", "methods"]
