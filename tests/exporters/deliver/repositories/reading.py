"""Repositories read as the servers read them, with their own definitions; nothing here knows how they are written."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

TYPES = {
    "TYPE_FP32": np.float32,
    "TYPE_FP16": np.float16,
    "TYPE_UINT8": np.uint8,
    "TYPE_INT64": np.int64,
}


@cache
def _definition() -> Any:
    """Triton's ModelConfig out of its own client, whose package wants grpc where this one module does not."""
    package = importlib.util.find_spec("tritonclient")
    assert package is not None, "tests/requirements.txt names tritonclient"
    assert package.submodule_search_locations, "tritonclient is a package"
    file = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def triton_config(folder: Path) -> Any:
    """The ModelConfig of a model's folder; protobuf refuses a field or a value that is none of Triton's."""
    text = (folder / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, _definition().ModelConfig())


def triton_type(io: Any) -> str:
    """The name of an input's or output's type."""
    return str(_definition().DataType.Name(io.data_type))


def sent(config: Any, io: Any) -> list[int]:
    """The shape of a request's tensor, as Triton's documentation has it: the batch in front where there is batching."""
    return [-1, *io.dims] if config.max_batch_size > 0 else list(io.dims)


def received(config: Any, io: Any) -> list[int]:
    """The shape that the model behind is given: `reshape` stands in for the dims."""
    dims = list(io.reshape.shape) if io.HasField("reshape") else list(io.dims)
    return [-1, *dims] if config.max_batch_size > 0 else dims


def feed(config: Any, io: Any, batch: int, size: int = 80) -> np.ndarray[Any, Any]:
    """Random values for an input: its open dims are the batch, then any size."""
    first, *rest = received(config, io)
    assert first == -1
    shape = [batch, *(size if dim == -1 else dim for dim in rest)]
    dtype = TYPES[triton_type(io)]
    random = np.random.default_rng(0)
    if dtype == np.int64:
        return np.full(shape, -1, np.int64)
    if dtype == np.uint8:
        return random.integers(0, 256, shape, np.uint8)
    return random.standard_normal(shape).astype(dtype)
