"""The explanation methods, one file each, found by name."""

from .method import Forward, Method, MethodSet, applicable, create, left_out, methods

__all__ = ["Forward", "Method", "MethodSet", "applicable", "create", "left_out", "methods"]
