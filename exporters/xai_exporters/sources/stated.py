"""Preprocessing that a source states itself; it is used instead of a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xai_deploy.format.bundle import Input
from xai_deploy.format.image_input import written


@dataclass(frozen=True)
class Stated:
    """A source's statement about the images that its network takes.

    Attributes:
        size: (height, width) of the crop for which `fields` hold; None: for any.
        fields: Fields of `xai_deploy.format.manifest.Preprocess`, for RGB.
        where: The place where this is stated, for people.
        sure: Whether the source is known to be what `where` describes; if not, the fields are assumed.
        ask: The options to give if there are several possibilities; "" if there is one.
    """

    size: tuple[int, int] | None
    fields: Mapping[str, Any]
    where: str
    sure: bool
    ask: str = ""

    def at(self, channels: int, height: int, width: int) -> dict[str, Any] | None:
        """The fields for an input of another size, with the resize scaled in proportion; None if the number of channels differs."""
        if channels != len(self.fields["mean"]):
            return None
        values = dict(self.fields)
        if self.size in (None, (height, width)):
            return values
        assert self.size is not None
        own = values["resize"]
        # after rounding, the resized image still has to hold the crop
        if isinstance(own, tuple):
            sides = zip((height, width), own, self.size, strict=True)
            values["resize"] = tuple(max(round(side * resized / crop), side) for side, resized, crop in sides)
        elif isinstance(own, int):
            scaled = round(own * min(height, width) / min(self.size))
            values["resize"] = max(scaled, height) if height == width else "stretch"
        return values


def note(
    stated: Stated | str | None,
    preset: str | None,
    fields: Mapping[str, Any],
    image: Input,
    boxes: bool = False,
) -> str | None:
    """The line that tells people where the preprocessing comes from, or which stated resize a preset leaves out; None: neither.

    Args:
        stated: What the source states.
        preset: The user's preset.
        fields: The user's own fields; they replace those stated.
        image: The input as it is described.
        boxes: Whether the network is a detector.
    """
    if not isinstance(stated, Stated):
        return None
    shape = image.height, image.width
    if preset not in (None, "assume"):
        own = (stated.at(image.channels, *shape) or {}).get("resize")
        if not stated.sure or own in (None, image.preprocess.resize) or "resize" in fields:
            return None
        return f"--preprocess {preset} replaces the resize that {stated.where} states: add --resize {written(own)} for that one."
    kept = f" but for {', '.join(fields)}" if fields else ""
    line = f"Preprocessing is that of {stated.where}{kept}"
    if stated.size not in (None, shape):
        assert stated.size is not None
        line += f", which takes {stated.size[0]} x {stated.size[1]}, scaled to this input"
    if boxes and not isinstance(stated.fields["resize"], str) and "resize" not in fields:
        line += ", which crops photos: this detector finds nothing outside the crop; --resize letterbox takes in the whole photo"
    return f"{line}{'; ' + stated.ask if stated.ask and not fields else ''}."
