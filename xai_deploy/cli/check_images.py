"""The images of xai-check: their files, and their pixels in chunks."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import ImageFileError, InputError
from ..format.bundle import MANIFEST, Input
from ..foundation.progress import progress
from .arguments import Bad, find_images, read_chunks

_CHUNK = 16


def find(paths: Sequence[str], arguments: argparse.Namespace, bundles: str) -> list[Path]:
    """The image files; the message about a bundle among them ends with `bundles`, which says how many bundles the call takes."""
    try:
        return find_images(paths, recursive=arguments.recursive)
    except ImageFileError:
        if bundle := next((path for path in paths if (Path(path) / MANIFEST).is_file()), None):
            raise InputError(f"{bundle}: is a bundle, but an image is expected here; {bundles}") from None
        raise


def chunks(
    files: Sequence[Path], arguments: argparse.Namespace, skipped: list[Bad], spec: Input
) -> Iterator[tuple[list[Path], list[Any]]]:
    """The images that can be read, in chunks. With --skip-bad the others are reported and added to `skipped`.

    Raises:
        InputError: An image can't be read, and --skip-bad is not given; or none can be read.
    """
    size = min(arguments.batch_size, _CHUNK)  # no more images are held than a graph is given
    parts = read_chunks(files, size, arguments.max_pixels, spec, arguments.input_range)
    for chunk in progress(parts, len(files), "images", not arguments.quiet and len(files) > 1, len):
        bad = [item for item in chunk if isinstance(item, Bad)]
        for item in bad:
            item.report(arguments.skip_bad)
        skipped += bad
        if good := [item for item in chunk if not isinstance(item, Bad)]:
            # lists: a tuple of as many images as a network takes would be one image for each of its inputs
            yield [path for path, _ in good], [pixels for _, pixels in good]
    if len(skipped) == len(files):
        raise InputError(f"none of the {len(files)} images can be read")
