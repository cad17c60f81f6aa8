"""Preprocessing that a source states of itself, in place of a preset that is the same for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stated:
    """What a source says of the images that its network takes.

    Attributes:
        size: (height, width) of the crop for which `fields` holds.
        fields: Of `xai_deploy.bundle.Preprocess`, for RGB.
        where: Who says so, for people.
        sure: The source is known to be what `where` speaks of; otherwise the fields are assumed.
        ask: What to give instead, where there are several possibilities; "" where there are none.
    """

    size: tuple[int, int]
    fields: Mapping[str, Any]
    where: str
    sure: bool
    ask: str = ""

    def at(self, channels: int, height: int, width: int) -> dict[str, Any] | None:
        """The fields for an input of another size, its resize in proportion; None where the channels differ."""
        if channels != len(self.fields["mean"]):
            return None
        values = dict(self.fields)
        if (height, width) != self.size and values["resize"] != "stretch":
            scaled = round(values["resize"] * min(height, width) / min(self.size))
            values["resize"] = max(scaled, height) if height == width else "stretch"
        return values


def note(
    stated: Stated | str | None, preset: str | None, fields: Mapping[str, Any], shape: tuple[int, int]
) -> str | None:
    """The line for people on where the preprocessing comes from; None where the user's preset leaves nothing of it.

    Args:
        stated: By the source.
        preset: The user's.
        fields: The user's own, over those stated.
        shape: (height, width) of the input.
    """
    if not isinstance(stated, Stated) or preset is not None:
        return None
    kept = f" but for {', '.join(fields)}" if fields else ""
    line = f"Preprocessing is that of {stated.where}{kept}"
    if stated.size != shape:
        line += f", which takes {stated.size[0]} x {stated.size[1]}, scaled to this input"
    return f"{line}{'; ' + stated.ask if stated.ask and not fields else ''}."
