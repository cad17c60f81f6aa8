"""Recognise torchvision's published weights, and read from their enums how images are prepared, which the file does not hold."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from .stated import Stated


def find_published(models: Any, path: Path) -> tuple[str, Any] | None:
    """Recognise a published file by its name, or else by its sha256.

    The name of a published file ends in the first digits of its sha256, so a renamed file is recognised too.

    Args:
        models: `torchvision.models`.
        path: The file.

    Returns:
        The network's name and the member of its weights' enum; None for any other file.
    """
    # "resnet50-0676ba61 (1)" is a browser's second copy
    stem = re.sub(r"(\.pth|\.pt|\s*\(\d+\))+$", "", path.stem.lower())
    files = {
        Path(weights.url).stem.lower(): (name, weights)
        for name in models.list_models(module=models)
        for weights in models.get_model_weights(name)
    }
    if stem in files:
        return files[stem]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return next((network for name, network in files.items() if digest.startswith(name.rpartition("-")[2])), None)


def stated_by_torchvision(
    models: Any, name: str, published: Any | None, stem: str, size: int | None = None
) -> Stated | None:
    """The preprocessing of a network's weights.

    Args:
        models: `torchvision.models`.
        name: The network's name.
        published: The enum's member, if the file is recognised as a published one.
        stem: The file's name, which may hold a member's name ("resnet50_IMAGENET1K_V2").
        size: The size of the crop, if the weights determine it.

    Returns:
        The preprocessing; None if no published weights fit. If several fit and differ, it is the first one's, with `ask` set.
    """
    if published is not None:
        return _stated(published, sure=True)
    all_members = list(models.get_model_weights(name))
    named = [
        w
        for w in all_members
        if re.search(rf"(?<![a-z0-9]){w.name.lower()}(?![a-z0-9])", stem.lower().replace("-", "_"))
    ]
    if len(named) == 1:
        return _stated(named[0], sure=True)
    members = [w for w in all_members if w.meta["categories"] is not None and size in (None, _crop(w))]
    if not members:
        return None
    first = _stated(members[0], sure=False)
    options = {w.name: _options(w) for w in members}
    if len(set(options.values())) == 1:
        return first
    several = ", ".join(f"{given} as for {member}" for member, given in options.items())
    return Stated(first.size, first.fields, first.where, False, f"weights of {name} differ in it, give {several}")


def _crop(weights: Any) -> int:
    return int(weights.transforms().crop_size[0])


def _stated(weights: Any, sure: bool) -> Stated:
    how = weights.transforms()
    fields = {
        "resize": int(how.resize_size[0]),
        "interpolation": how.interpolation.value,
        "antialias": True,
        "color": "RGB",
        "scale": 1 / 255,
        "mean": tuple(map(float, how.mean)),
        "std": tuple(map(float, how.std)),
    }
    where = f"torchvision's {type(weights).__name__}.{weights.name}"
    return Stated((_crop(weights),) * 2, fields, where, sure)


def _options(weights: Any) -> str:
    """The equivalent options of the command line."""
    how, crop = weights.transforms(), _crop(weights)
    return f"--input-shape 3,{crop},{crop} --resize {how.resize_size[0]} --interpolation {how.interpolation.value}"
