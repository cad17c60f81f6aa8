"""ONNX Runtime as ONNX defines a network: what has to be switched off.

- From 1.31 on it turns a MatMul whose weights have 8 bits into MatMulNBits of accuracy level 4, which quantises the layer's
  inputs, too: a vision transformer's logits were off by 1 to 2 %. Floats made of the weights once take a third of the time of that
  operator's level 1, which keeps the inputs as they are. In a network of integers, which has QuantizeLinear, they would undo its
  layers of integers; there it is level 1.
- Where a Conv, ConvTranspose or Gemm lies between DequantizeLinear and QuantizeLinear, WeightBiasQuantization rounds its float
  weights to one scale of int8.
- DoubleQDQPairsRemover merges two roundings that follow each other into one, which is off by a code for up to half of all values.
- On x86 processors without VNNI, products of uint8 and int8 are added up in pairs in 16 bits, which saturate: logits of residual
  networks were off by half. `session.x64quantprecision` makes the weights uint8 there, which is exact, and does nothing elsewhere.
  It does not open graphs with two layers that read the same weights; those are computed in floats (`session.disable_quant_qdq`).
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from . import runtimes

_INEXACT = ["WeightBiasQuantization", "DoubleQDQPairsRemover"]
_FATAL = 4
_OPERATOR = b"\x22"
"""The tag of NodeProto.op_type in ONNX's protobuf: field 4, text, whose length follows."""


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
    rounds, restores = _holds(model, "QuantizeLinear", "DequantizeLinear")
    options.add_session_config_entry("session.x64quantprecision", "1")
    create = runtimes.onnxruntime().InferenceSession
    if rounds:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        level, options.log_severity_level = options.log_severity_level, _FATAL
        try:
            return create(model, options, providers=providers, disabled_optimizers=_INEXACT)
        except Exception:  # two layers read the same weights, or the graph is at fault: then the second attempt says so
            options.log_severity_level = level
    if rounds or restores:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return create(model, options, providers=providers, disabled_optimizers=_INEXACT if rounds else None)


def _holds(model: bytes | str, *operators: str) -> list[bool]:
    """Which of these operators the graph holds. A file is not read into memory."""
    fields = [_OPERATOR + bytes([len(name)]) + name.encode() for name in operators]
    if isinstance(model, bytes):
        return [field in model for field in fields]
    with Path(model).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [content.find(field) >= 0 for field in fields]
