"""Checks that tensors hold as many bytes as their sizes say: a runtime that believes the sizes would read past the end."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UnsafeGraphError
from .messages import FEW, Tensor, short

MAX_RANK = 16
_MAX_ELEMENTS = 1 << 40
FEW_INTEGERS = (
    1 << 16
)  # elements of a list of sizes or positions; larger tensors are data, and their values are not followed

# data type (TensorProto.DataType) -> bits of an element; texts and complex numbers are left out
BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
_FLOAT, _INT32, _INT64, _DOUBLE, _UINT64 = 4, 5, 7, 10, 11  # fields that hold elements
_FIELD = {1: _FLOAT, 7: _INT64, 11: _DOUBLE, 12: _UINT64, 13: _UINT64}  # by data type; all others lie in int32_data
_NUMPY: dict[int, Any] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip
DTYPES = {code: np.dtype(kind).name for code, kind in _NUMPY.items()}


def size_of(dtype: int) -> int:
    """Bytes of an element, at least one.

    Raises:
        UnsafeGraphError: The type does not exist, or is not a type of numbers.
    """
    return max(1, _bits(dtype, "a tensor") // 8)


def _bits(dtype: int, what: str) -> int:
    if dtype not in BITS:
        raise UnsafeGraphError(f"{what} has the data type {dtype}, which is not a type of numbers")
    return BITS[dtype]


def check_tensor(tensor: Tensor) -> None:
    """Refuse a tensor whose data are more or less than its sizes say.

    Raises:
        UnsafeGraphError: Its data do not fit its sizes, or its type is not allowed.
    """
    what = f"the tensor {short(tensor.name)}"
    bits = _bits(tensor.dtype, what)
    if len(tensor.dims) > MAX_RANK or any(size < 0 for size in tensor.dims):
        raise UnsafeGraphError(f"{what} has impossible sizes {tensor.dims[:MAX_RANK]}")
    count = math.prod(tensor.dims)
    if count > _MAX_ELEMENTS:
        raise UnsafeGraphError(f"{what} has impossible sizes {tensor.dims}")
    typed = {number: held for number, held in tensor.typed.items() if held}
    # Empty raw_data beside typed data counts as absent. Elements of less than 8 bits share bytes, so bytes are rounded up.
    if tensor.raw is not None and not (typed and tensor.raw[0] == tensor.raw[1]):
        wanted, held = -(-count * bits // 8), tensor.raw[1] - tensor.raw[0]
        if typed:
            raise UnsafeGraphError(f"{what} holds its data twice, as bytes and as numbers")
        if held != wanted:
            raise UnsafeGraphError(f"{what} of sizes {tensor.dims} holds {held} bytes instead of {wanted}")
        return
    field = _FIELD.get(tensor.dtype, _INT32)
    wanted = -(-count * bits // 8) if bits < 8 else count  # an entry of int32_data holds one byte of small elements
    if typed != ({field: wanted} if wanted else {}):
        raise UnsafeGraphError(
            f"{what} of sizes {tensor.dims} holds {sum(typed.values())} elements instead of {wanted}"
        )


def values_of(tensor: Tensor, data: bytes) -> NDArray[Any] | None:
    """The values of a tensor that has passed the check; None if it is too large to be a list of sizes or positions."""
    count, dtype = math.prod(tensor.dims), _NUMPY.get(tensor.dtype)
    # Sizes and positions are int32 or int64. Typed fields are read up to `FEW` elements only.
    most = FEW_INTEGERS if tensor.dtype in (6, 7) and tensor.raw is not None else FEW
    if count > most or dtype is None:
        return None
    if tensor.raw is not None and tensor.raw[0] != tensor.raw[1]:
        kind = np.dtype(dtype).newbyteorder("<")
        array = np.frombuffer(data, kind, count, tensor.raw[0]).astype(dtype)
    elif tensor.dtype == 10:  # float16 lies as bits in int32_data
        array = np.frombuffer(struct.pack(f"<{count}H", *(i & 0xFFFF for i in tensor.integers)), "<f2").astype(dtype)
    else:
        typed = tensor.floats or tensor.integers
        mask = (1 << BITS[tensor.dtype]) - 1  # `varints` reads all numbers as int64; this makes them unsigned again
        numbers = [value & mask if dtype in (np.uint8, np.uint16, np.uint32, np.uint64) else value for value in typed]  # type: ignore[operator]
        with np.errstate(all="ignore"):  # via int64, because np.array refuses what astype wraps around
            array = np.array(numbers, np.int64 if numbers and dtype in (np.int8, np.int16, np.int32) else dtype).astype(
                dtype
            )
    return array.reshape(tensor.dims)
