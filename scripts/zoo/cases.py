"""What is examined, and what its figures are judged by: without torch, for the table."""

Case = tuple[str, str]
"""A network's name and torch's exporter."""
EXPORTERS = ("dynamo", "torchscript")
DISPUTED = 1e-3
"""Difference from autograd, relative to the gradient's largest magnitude, above which central differences decide."""
