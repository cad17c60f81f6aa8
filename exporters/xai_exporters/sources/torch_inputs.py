"""What a torch module takes: the names of its inputs, and an example of each, for torch's exporters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xai_deploy.foundation.arrays import read_npy

from ..errors import RequestError
from ..passes.network_inputs import ARRAY, FILE_LIMIT, asked_of, explained_images, stated_shape
from ..request import Request

EXAMPLES = 2
"""The batch of examples: torch's exporter takes a batch of one for a fixed size."""


def parameters(module: Any, request: Request) -> list[str]:
    """The names of what `forward` takes: those without a default, and those of which the request says something."""
    named = {text.partition("=")[0] for text in request.input} | set(asked_of(request).images)
    named |= set(explained_images(request))
    try:
        found = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):  # written in C, or none of Python's
        return []
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, one in found.items() if one.kind in by_name and (one.default is one.empty or name in named)]


def examples(names: Sequence[str], request: Request, shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """An example of each input by name. An input of which the request says nothing is an image like the one that is explained.

    Args:
        names: The names of the inputs.
        request: The export.
        shape: (C,H,W) of the image that is explained, or (C,D,H,W) of a volume.

    Raises:
        RequestError: A name is no input's, or the request does not say an array's shape.
    """
    asked = asked_of(request)
    given = dict(text.partition("=")[::2] for text in request.input)
    for option, those in (("--input", given), ("--input-image", asked.images), ("--explain-input", [asked.explain])):
        if unknown := next((name for name in those if name is not None and name not in names), None):
            raise RequestError(f"{option} {unknown}: the network has no such input; it has {', '.join(names)}")
    explained = asked.explain or next((name for name in names if name not in given), None)
    if explained is None or explained in given:
        raise RequestError(
            f"--input {explained or names[0]}: leaves no image to explain; the inputs are {', '.join(names)}"
        )
    random = np.random.default_rng(0)

    def example(name: str) -> NDArray[Any]:
        if name in given:
            return _given(name, given[name], random)
        own = (
            None if name == explained else stated_shape(asked.images.get(name, {}), len(shape), f"--input-image {name}")
        )
        return random.random((EXAMPLES, *(own or shape)), dtype=np.float32)

    return {name: example(name) for name in names}


def has_rows(array: NDArray[Any]) -> bool:
    """Whether an example has a row for each image."""
    return array.shape[:1] == (EXAMPLES,)


def _given(name: str, text: str, random: np.random.Generator) -> NDArray[Any]:
    """The example of an input that is no image. A file of one row, [1, ...], is a row for each image.

    Raises:
        RequestError: The text says no shape, or can't be read.
    """
    said = f"--input {name}={text}"
    kind, _, rest = text.partition(":")
    if kind == ARRAY:
        return _drawn(said, rest, random)
    if text.endswith(".npy"):
        array = read_npy(Path(text), FILE_LIMIT, said, RequestError)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        return np.repeat(array, EXAMPLES, axis=0) if array.shape[:1] == (1,) else array
    try:
        return np.array(float(text), np.float32)
    except ValueError:
        raise RequestError(f"{said}: is neither a .npy file, nor a number, nor {ARRAY!r}") from None


def _drawn(said: str, text: str, random: np.random.Generator) -> NDArray[Any]:
    sizes, _, kind = text.partition(":")
    try:
        shape = tuple(int(size) for size in sizes.split("x"))
        dtype = np.dtype(kind or "float32")
    except (ValueError, TypeError):
        shape, dtype = (), np.dtype(object)
    if not shape or min(shape) < 1 or math.prod(shape) > FILE_LIMIT // 8 or dtype.kind not in "buif":
        raise RequestError(
            f"{said}: a torch network does not say the shape of what it takes; give it as in {ARRAY}:4 for [N,4], or "
            f"{ARRAY}:16x8:int64"
        )
    return random.integers(0, 2, (EXAMPLES, *shape)).astype(dtype)
