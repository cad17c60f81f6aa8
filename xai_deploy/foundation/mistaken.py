"""What a path is that was given in place of another: a URL, a bundle, a network, an image. For messages only."""

from __future__ import annotations

import os
import re
from pathlib import Path

ORDER = "a bundle or a model file comes first, then the images"

_SAVED_MODEL = "saved_model.pb"
_SCHEME = re.compile(r"(?i)^(https?|ftp|s3|gs|hf|file):/+")  # `Path` keeps one slash of two
_NETWORKS = frozenset(
    {
        ".onnx",
        ".pt",
        ".pth",
        ".pt2",
        ".th",
        ".ckpt",
        ".safetensors",
        ".tflite",
        ".h5",
        ".keras",
        ".pb",
        ".xml",
        ".pdmodel",
    }
)
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"})


def is_url(path: str | os.PathLike[str]) -> str | None:
    """What is wrong with a URL, and what to do; None if it is none, or a file has this name."""
    text = os.fspath(path)
    match = _SCHEME.match(text)
    if match is None or os.path.lexists(text):
        return None
    scheme, rest = match[1].lower(), text[match.end() :]
    if scheme == "file":
        return f"{text}: is a URL; give the path alone, /{rest}"
    how = f" (curl -LO {scheme}://{rest})" if scheme in ("http", "https", "ftp") else ""
    return f"{scheme}://{rest}: is a URL, and only files are read; download it first{how}, and name the file"


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether this is a folder that looks like a bundle."""
    return Path(path, "manifest.json").is_file()


def graph_file(path: str | os.PathLike[str]) -> Path:
    """The file that holds a network's graph: the path itself, or saved_model.pb in the folder of a TensorFlow SavedModel."""
    graph = Path(path, _SAVED_MODEL)
    return graph if graph.is_file() and not is_bundle(path) else Path(path)


def is_network(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name ends as those of networks do."""
    return Path(path).suffix.lower() in _NETWORKS


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name ends as those of images do, or a folder holds such a file and is no bundle."""
    if not os.path.isdir(path):
        return Path(path).suffix.lower() in _IMAGES
    try:
        return not is_bundle(path) and any(Path(name).suffix.lower() in _IMAGES for name in os.listdir(path))
    except OSError:
        return False
