"""ONNX Runtime as ONNX defines a network: what has to be switched off.

- From 1.31 on it turns a MatMul whose weights have 8 bits into MatMulNBits of accuracy level 4, which quantises the layer's
  inputs, too: a vision transformer's logits were off by 1 to 2 %. Floats made of the weights once take a third of the time of that
  operator's level 1, which keeps the inputs as they are. In a network of integers, which has QuantizeLinear, they would undo its
  layers of integers; there it is level 1.
- Where a Conv, ConvTranspose or Gemm lies between DequantizeLinear and QuantizeLinear, WeightBiasQuantization rounds its float
  weights to one scale of int8.
- DoubleQDQPairsRemover merges two roundings that follow each other into one, which is off by a code for up to half of all values.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from . import runtimes

_INEXACT = ["WeightBiasQuantization", "DoubleQDQPairsRemover"]


def open_exactly(model: bytes | str, options: Any, providers: list[Any]) -> Any:
    """Open a session without what changes numbers.

    Args:
        model: The serialised graph, or its file's path.
        options: An `onnxruntime.SessionOptions`; entries are added.
        providers: As for `onnxruntime.InferenceSession`.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        Exception: What ONNX Runtime raises, undocumented, if it can't open the graph.
    """
    rounds, restores = _names(model, b"QuantizeLinear", b"DequantizeLinear")
    if rounds:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    elif restores:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return runtimes.onnxruntime().InferenceSession(
        model, options, providers=providers, disabled_optimizers=_INEXACT if rounds else None
    )


def _names(model: bytes | str, *names: bytes) -> list[bool]:
    """Which of these words the graph holds. A file is not read into memory."""
    if isinstance(model, bytes):
        return [name in model for name in names]
    with Path(model).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [content.find(name) >= 0 for name in names]
