"""Images as clients send them: encoded files, pixels, numbers."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..format.bundle import Input
from ..images.read import InMemory
from ..preprocess import read_pixels
from .limits import Limits
from .nested import as_array
from .refusals import BAD_REQUEST, TOO_LARGE, Refusal

KINDS = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""Datatype of the protocol V2 -> the type of an array."""

DATATYPES = {np.dtype(kind).name: name for name, kind in KINDS.items()}
"""Name of a type -> datatype of V2."""


def decoded(data: bytes, spec: Input, limits: Limits, name: str) -> NDArray[Any]:
    """An image file -> what the network's preprocessing takes.

    Args:
        data: The file's bytes.
        spec: The input that takes it.
        limits: `pixels` is held against the header, before anything is decoded.
        name: What messages call it.

    Raises:
        ImageFileError, ImageTooLargeError: It can't be read, or is too large.
        Refusal: It is empty, or the network takes volumes.
    """
    if not data:
        raise Refusal(BAD_REQUEST, f"{name}: is empty; send the bytes of an image file")
    if spec.depth is not None:
        raise Refusal(
            BAD_REQUEST, f"{name}: this network takes volumes; send them as numbers, {list(spec.image_shape)}"
        )
    return read_pixels(InMemory(data, name), spec, limits.pixels)


def from_base64(text: str, name: str) -> bytes:
    """The bytes of a base64 text; a data URL's prefix is left out.

    Raises:
        Refusal: It is no base64.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(BAD_REQUEST, f"{name}: is no base64; send the bytes of an image file as base64") from None


def from_numbers(nested: object, spec: Input, name: str) -> NDArray[Any]:
    """Nested lists of numbers -> floats as the network takes them, or 8-bit pixels for a network of 8-bit pixels.

    Raises:
        Refusal: They have another shape, are no numbers, or one is too large for float32.
    """
    array = array_of(nested, name)
    if spec.dtype == "uint8":
        return as_pixels(array, name)
    if array.shape != spec.image_shape:
        raise Refusal(
            BAD_REQUEST,
            f"{name}: numbers are taken as preprocessed, {list(spec.image_shape)} ({spec.layout[1:]}), not {list(array.shape)}; "
            'send a picture as {"b64": "..."}',
        )
    if np.abs(array).max() > np.finfo(np.float32).max:
        raise Refusal(BAD_REQUEST, f"{name}: a number is too large for float32")
    return array.astype(np.float32)


def array_of(nested: object, name: str) -> NDArray[Any]:
    """Nested lists of numbers as an array of float64.

    Raises:
        Refusal: They are no numbers, or their lengths differ.
    """
    if not isinstance(nested, list):
        raise Refusal(BAD_REQUEST, f"{name}: takes nested lists of numbers, not {_called(nested)}")
    array = as_array(nested)
    if array is None:
        raise Refusal(BAD_REQUEST, f"{name}: the lists differ in length, or hold something other than numbers")
    if array.size == 0:
        raise Refusal(BAD_REQUEST, f"{name}: takes numbers, not nothing")
    return array.astype(np.float64)


def as_pixels(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Whole numbers from 0 to 255 as pixels.

    Raises:
        Refusal: A number is another one.
    """
    if not (array.min() >= 0 and array.max() <= 255 and np.array_equal(array, np.rint(array))):
        raise Refusal(BAD_REQUEST, f"{name}: this network takes pixels: whole numbers from 0 to 255")
    return array.astype(np.uint8)


def check_pixels(array: NDArray[Any], limits: Limits, name: str) -> None:
    """Refuse an array of pixels that is larger than an image file may be.

    Raises:
        Refusal: It is.
    """
    count = int(np.prod(array.shape[:2])) if array.ndim >= 2 else array.size
    if count > limits.pixels:
        raise Refusal(TOO_LARGE, f"{name}: {count} pixels, the limit is {limits.pixels}; scale it down")


def _called(value: object) -> str:
    names = {str: "a text", bool: "true or false", int: "a number", float: "a number", dict: "an object"}
    return names.get(type(value), "null" if value is None else "something else")
