"""Normalisations and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from .harness import Case, Free, check

RNG = np.random.default_rng(0)
X = Free(("N", 6, 4, 5))


def vector(*shape: int, low: float = -1) -> Any:
    return RNG.uniform(low, 2, shape).astype(np.float32)


CASES = [
    Case("BatchNormalization", (X, vector(6), vector(6), vector(6), vector(6, low=0.5))),
    Case("BatchNormalization", (X, vector(6), vector(6), vector(6), vector(6, low=0.5)), {"epsilon": 0.1}),
    Case("BatchNormalization", (Free(("N", 6)), vector(6), vector(6), vector(6), vector(6, low=0.5))),
    Case("LayerNormalization", (X, vector(5), vector(5))),
    Case("LayerNormalization", (X, vector(4, 5)), {"axis": 2, "epsilon": 0.01}),
    Case("LayerNormalization", (X, vector(6, 4, 5), vector(6, 4, 5)), {"axis": -3}),
    Case("InstanceNormalization", (X, vector(6), vector(6)), {"epsilon": 0.01}),
    Case("InstanceNormalization", (Free(("N", 3, 7)), vector(3), vector(3))),
    Case("GroupNormalization", (X, vector(6), vector(6)), {"num_groups": 3, "epsilon": 0.01}, opset=21),
    Case("MeanVarianceNormalization", (X,), {"axes": [2, 3]}),
    Case("MeanVarianceNormalization", (X,), {"axes": [1]}),
    Case("LpNormalization", (X,), {"axis": 1}, torch=lambda x: F.normalize(x, dim=1)),
    Case("LpNormalization", (Free(("N", 6, 4), "away"),), {"axis": -1, "p": 1}, torch=lambda x: F.normalize(x, 1, -1)),
    Case("LRN", (X,), {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 1.5},
         torch=lambda x: F.local_response_norm(x, 3, 0.5, float(np.float32(0.6)), 1.5)),
    Case("LRN", (X,), {"size": 5}),
    Case("Softmax", (X,), torch=lambda x: x.softmax(-1)),
    Case("Softmax", (X,), {"axis": 1}, torch=lambda x: x.softmax(1)),
    Case("LogSoftmax", (X,), torch=lambda x: x.log_softmax(-1)),
    Case("LogSoftmax", (X,), {"axis": 2}, torch=lambda x: x.log_softmax(2)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


def test_rms_normalization_is_torchs() -> None:
    """onnxruntime 1.31 and the evaluator know the operator (opset 23) in parts only: the rule alone, against torch."""
    pytest.importorskip("onnx.reference.ops.op_rms_normalization")
    scale = vector(5)
    tensor = torch.from_numpy(scale.astype(np.float64))
    case = Case(
        "RMSNormalization", (X, scale), opset=23, reason="opset 23", torch=lambda x: F.rms_norm(x, (5,), tensor, 1e-5)
    )
    check(case)
