"""ONNX Runtime as ONNX defines a network: what has to be switched off.

From 1.31 on it turns a MatMul whose weights have 8 bits into MatMulNBits of accuracy level 4, which quantises the layer's inputs,
too: a vision transformer's logits were off by 1 to 2 %. Floats made of the weights once take a third of the time of that
operator's level 1, which keeps the inputs as they are. In a network of integers, which has QuantizeLinear, they would undo its
layers of integers; there it is level 1.
"""

from __future__ import annotations

from typing import Any


def compute_exactly(options: Any, model: bytes) -> None:
    """Switch off what changes numbers.

    Args:
        options: An `onnxruntime.SessionOptions`.
        model: The serialised graph that it will be for.
    """
    if b"QuantizeLinear" in model:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    elif b"DequantizeLinear" in model:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
