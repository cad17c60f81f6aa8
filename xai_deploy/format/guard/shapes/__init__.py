"""What is known of each tensor before a graph runs: its sizes, and its values if it is small. One file per family of operators."""

from . import broadcasting, growth, layout, linear, reduction, same, vision, window  # noqa: F401 - they fill the table
from .rules import Harmful, Known, Unknowable, rules
from .run import Run

__all__ = ["Harmful", "Known", "Run", "Unknowable", "rules"]
