"""Text of others, as a terminal or a picture can show it."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with "?" for control characters and broken encodings, which could garble a terminal or a picture."""
    return "".join(character if character.isprintable() else "?" for character in text)
