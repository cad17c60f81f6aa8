"""Operators that stand for several -> these several, one family per file."""
