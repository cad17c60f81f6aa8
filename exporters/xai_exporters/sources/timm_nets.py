"""timm's networks by their names: `--arch timm:resnet50`, `--arch timm:resnet50.a1_in1k`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ArchitectureError
from .configured import stated_by_module
from .stated import Stated

SCHEME = "timm:"


@dataclass(frozen=True)
class TimmNet:
    """A network of timm's.

    Attributes:
        timm: The package.
        name: The network's name; with a tag, the user says which published weights those in the file are, or start from.
        given: Its configuration, in place of timm's own for the name; None: timm's own.
        fixed: Arguments that the folder states.
        labels: The class names that the folder states.
        folder: The file that states all this.
    """

    timm: Any
    name: str
    given: Mapping[str, Any] | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    folder: Path | None = None

    def build(self, **options: Any) -> Any:
        """See `KnownNet`."""
        own = {"pretrained_cfg": dict(self.given)} if self.given is not None else {}
        return self.timm.create_model(self.name, pretrained=False, **own, **{**self.fixed, **options})

    def options(self, weights: Mapping[str, Any], input_shape: tuple[int, ...] | None) -> dict[str, Any]:
        """The image size of a transformer whose positions are a table: from the table, or from the input that is asked for."""
        table, patch = weights.get("pos_embed"), weights.get("patch_embed.proj.weight")
        if table is None or patch is None or getattr(table, "ndim", 0) != 3 or getattr(patch, "ndim", 0) != 4:
            return {}
        if input_shape is not None:
            return {"img_size": tuple(input_shape[1:])}
        tokens = int(table.shape[1])
        for prefix in (0, 1, 2, 5):  # no class token; one; a distilled one, too; four registers
            side = math.isqrt(max(tokens - prefix, 0))
            if side and side**2 == tokens - prefix:
                return {"img_size": side * int(patch.shape[-1])}
        return {}

    def unsaid(self, module: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """See `KnownNet`."""
        return {}

    def stated(self, options: Mapping[str, Any], module: Any = None) -> Stated | None:
        """The configuration of the name; it is sure if the user names the weights by their tag, with their own classes."""
        stated = stated_by_module(module)
        named = self.given is not None or ("." in self.name and "num_classes" not in options)
        return None if stated is None else replace(stated, sure=named and not stated.ask)

    def notes(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """See `KnownNet`."""
        built = {key: value for key, value in options.items() if key != "num_classes"}
        return (f"Built with {', '.join(f'{key}={value}' for key, value in built.items())}.",) if built else ()


def find(name: str, path: Path, given: Mapping[str, Any] | None = None) -> TimmNet:
    """The network of a name.

    Args:
        name: As timm lists it, with or without a tag.
        path: The weights' file, for messages.
        given: A configuration in place of timm's own.

    Raises:
        ArchitectureError: timm is missing, or has no such network.
    """
    try:
        import timm
    except ImportError:
        raise ArchitectureError(f"{path}: --arch {SCHEME}{name} needs timm; pip install timm") from None
    # other names would be looked up on a hub or run as a folder
    if name.partition(".")[0] not in timm.list_models():
        known = timm.list_models()
        longer = sorted((other for other in known if other.startswith(f"{name}_")), key=len)
        near = ", ".join((longer + difflib.get_close_matches(name, known, 3))[:3])
        raise ArchitectureError(f"timm has no network {name!r}{f'; the nearest are {near}' if near else ''}")
    return TimmNet(timm, name, given)
