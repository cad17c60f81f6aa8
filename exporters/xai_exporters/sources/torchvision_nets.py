"""Find the torchvision network that a file's weights belong to, and the arguments to build it that the weights do not hold."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArchitectureError
from .published import find_published, stated_by_torchvision
from .stated import Stated

SCHEME = "torchvision:"
_SLOW_INIT = ("googlenet", "inception_v3")  # without `init_weights=False` they warn, and start slowly


@dataclass(frozen=True)
class TorchvisionNet:
    """A torchvision network for the weights in a file.

    Attributes:
        models: `torchvision.models`.
        name: The network's name there.
        path: The weights' file.
        published: The member of the network's enum that the file belongs to; None for the user's own weights.
    """

    models: Any
    name: str
    path: Path
    published: Any | None

    def build(self, **options: Any) -> Any:
        """The network with random weights."""
        build = self.models.get_model_builder(self.name)
        quick = "init_weights" in inspect.signature(build).parameters or self.name in _SLOW_INIT
        return build(weights=None, **({"init_weights": False} if quick else {}), **options)

    def options(self, weights: Mapping[str, Any], input_shape: tuple[int, ...] | None) -> dict[str, Any]:
        """Arguments that the shapes of the weights or of the input determine: a ViT's image size, MaxViT's input size."""
        tokens, patch = weights.get("encoder.pos_embedding"), weights.get("conv_proj.weight")
        if (
            self.name.startswith("vit_")
            and tokens is not None
            and tokens.ndim == 3
            and patch is not None
            and patch.ndim == 4
        ):
            # a class token and a square grid of patches: side^2 + 1 positions
            side = math.isqrt(max(int(tokens.shape[1]) - 1, 0))
            return {"image_size": side * int(patch.shape[-1])} if side**2 + 1 == tokens.shape[1] else {}
        if self.name.startswith("maxvit") and input_shape is not None:  # the same weights, windows laid out differently
            return {"input_size": tuple(input_shape[1:])}
        return {}

    def unsaid(self, module: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments that change what the network computes, but not the names and shapes of its weights.

        Raises:
            ArchitectureError: The file is not a published one, and the user has not given them.
        """
        if not hasattr(module, "transform_input") or "transform_input" in options:
            return {}
        if self.is_published(options):
            return {"transform_input": True}  # as its builder does when it downloads the weights
        raise ArchitectureError(
            f"{self.path}: the weights do not tell whether this {self.name} transforms its input (torchvision's published weights, "
            "and those fine-tuned from them, need it; others mostly do not); say it with --arch-options transform_input=true or "
            "--arch-options transform_input=false"
        )

    def is_published(self, options: Mapping[str, Any]) -> bool:
        """Whether the file is a published one; with another number of classes it can't be."""
        if self.published is None:
            return False
        classes = len(self.published.meta["categories"] or range(1000))
        return bool(options.get("num_classes", classes) == classes)

    def stated(self, options: Mapping[str, Any], module: Any = None) -> Stated | None:
        """See `KnownNet`: the preprocessing of the weights in torchvision's enums."""
        published = self.published if self.is_published(options) else None
        stem = (
            self.path.stem if "num_classes" not in options else ""
        )  # weights for the user's own classes are not published ones
        return stated_by_torchvision(self.models, self.name, published, stem, options.get("image_size"))

    def notes(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Lines for people about how the network was recognised and built."""
        lines = []
        if self.published is not None and self.is_published(options):
            lines.append(
                f"The file is taken for torchvision's published {type(self.published).__name__}.{self.published.name}."
            )
        elif self.published is not None:
            lines.append("The file has the name of published weights, but another number of classes.")
        if "transform_input" in options:
            lines.append(f"Built with transform_input={options['transform_input']}.")
        return tuple(lines)


def find_net(path: Path, name: str | None = None) -> TorchvisionNet:
    """The torchvision network of a file, or the one named.

    Raises:
        ArchitectureError: torchvision is missing, has no such network, or the file's name holds none.
    """
    models = _torchvision()
    names = models.list_models(module=models)
    if name is not None and name not in names:
        near = ", ".join(difflib.get_close_matches(name, names, 3))
        raise ArchitectureError(f"torchvision has no network {name!r}{f'; the nearest are {near}' if near else ''}")
    published = find_published(models, path)
    if published is not None and name in (None, published[0]):
        return TorchvisionNet(models, published[0], path, published[1])
    return TorchvisionNet(models, name or name_in(path.stem), path, None)


def net_of(build: Any, path: Path) -> TorchvisionNet | None:
    """The network that a callable of the user's choice builds, if it is torchvision's own builder."""
    if not str(getattr(build, "__module__", "")).startswith("torchvision.models"):
        return None
    models = _torchvision()
    name = getattr(build, "__name__", "")
    if name not in models.list_models(module=models) or models.get_model_builder(name) is not build:
        return None
    return find_net(path, name)


def name_in(stem: str) -> str:
    """The torchvision network that a file's name holds ("resnet50-0676ba61" -> resnet50); the longest if there are several.

    Raises:
        ArchitectureError: It holds none.
    """
    models = _torchvision()
    names = models.list_models(module=models)
    matching = [
        n for n in names if re.search(rf"(?<![a-z0-9]){re.escape(n)}(?![a-z0-9])", stem.lower().replace("-", "_"))
    ]
    matching = matching or [n for n in names if re.search(rf"(?<![a-z0-9]){re.escape(n)}(?![a-z0-9])", stem.lower())]
    if not matching:
        raise ArchitectureError(
            f"the file's name ({stem!r}) contains no name of a torchvision network; give the architecture with "
            "--arch MODULE:CALLABLE, "
            "or --arch NAME for one of torchvision"
        )
    return str(max(matching, key=len))


def _torchvision() -> Any:
    try:
        import torchvision
    except ImportError:
        raise ArchitectureError(
            "the architecture of these weights is not in the file; give it with --arch MODULE:CALLABLE "
            "(or install torchvision, if it is one of its networks)"
        ) from None
    return torchvision.models
