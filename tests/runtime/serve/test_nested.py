"""Lists of JSON with other things in them than numbers: refused before NumPy makes an array of them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from xai_deploy.serve.nested import as_array

from .conftest import Start
from .test_v1 import X

MIB = 1 << 20
TEXTS = ["a" * 20_000] + ["b"] * 3_000  # as an array of texts: 3001 x 20000 x 4 bytes = 240 MB


@pytest.mark.parametrize(
    "nested", [[1, 2], [[1.5, 2], [3, 4]], [[True, False]], [[[1 << 63]], [[-1]]], [], [[], []], [[[[[[3]]]]]]]
)
def test_numbers_as_numpy_reads_them(nested: Any) -> None:
    array = as_array(nested)
    assert array is not None
    np.testing.assert_array_equal(array, np.array(nested))
    assert array.dtype == np.array(nested).dtype


@pytest.mark.parametrize(
    "nested", [["a"], [1, "a"], [[1], ["a"]], [{}], [None, 1.5], [[1], [1, 2]], [[1], 2], [b"a"], [[{}]], [1 << 80]]
)
def test_anything_else_is_none(nested: Any) -> None:
    assert as_array(nested) is None


def test_lists_that_are_too_deep() -> None:
    nested: list[Any] = [1]
    for _ in range(900):
        nested = [nested]
    assert as_array(nested) is None


ONE = X[0].tolist()
PLACES: list[tuple[str, Any]] = [
    ("v1/models/net:predict", {"instances": [TEXTS]}),
    ("v1/models/net:explain", {"instances": [ONE], "parameters": {"target": TEXTS}}),
    ("v1/models/net:explain", {"instances": [{"image": ONE, "inputs": {"depth": TEXTS}}]}),
    (
        "v2/models/net/infer",
        {"inputs": [{"name": "image", "shape": [1], "datatype": "FP32", "data": TEXTS}]},
    ),
]


@pytest.mark.parametrize(("place", "body"), PLACES, ids=["image", "target", "beside", "v2"])
def test_a_long_text_among_short_ones_takes_no_memory(start: Start, place: str, body: Any) -> None:
    running = start()
    tracemalloc.start()
    try:
        running.refused(400, json.dumps(body).encode(), place)
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("error")
def test_a_number_beyond_float32_is_refused_without_a_warning(start: Start) -> None:
    image = X[0].tolist()
    image[0][0][0] = 1e300
    assert "instance 0: a number is too large for float32" in start().refused(400, {"instances": [image]})
