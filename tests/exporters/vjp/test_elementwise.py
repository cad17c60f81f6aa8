"""Activations and arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from .harness import Case, Free, check

X = Free(("N", 3, 4, 5), "away")
P = Free(("N", 3, 4, 5), "positive")
A, B = Free(("N", 3, 4, 5), "away"), Free(("N", 3, 4, 5), "positive")


def f32(*values: Any) -> Any:
    return np.array(values, np.float32)


SLOPE = np.array([0.1, 0.3, -0.2], np.float32).reshape(3, 1, 1)

D = Free(("N", 3, 4), "distinct")

CASES = [
    Case("Relu", (X,), torch=F.relu),
    Case("LeakyRelu", (X,), torch=lambda x: F.leaky_relu(x, float(np.float32(0.01)))),
    Case("LeakyRelu", (X,), {"alpha": 0.25}, torch=lambda x: F.leaky_relu(x, 0.25)),
    Case("ThresholdedRelu", (P,), {"alpha": 0.25}),
    Case("PRelu", (X, SLOPE)),
    Case("PRelu", (X, Free((3, 1, 1)))),
    Case("Elu", (X,), torch=F.elu),
    Case("Elu", (X,), {"alpha": 0.5}, torch=lambda x: F.elu(x, 0.5)),
    Case("Celu", (X,), {"alpha": 0.5}, torch=lambda x: F.celu(x, 0.5)),
    Case("Selu", (X,)),
    Case("Selu", (X,), {"alpha": 1.5, "gamma": 0.5}),
    Case("Sigmoid", (X,), torch=torch.sigmoid),
    Case("HardSigmoid", (Free(("N", 3, 4, 5), "distinct"),), {"alpha": 0.25, "beta": 0.5}),
    Case("HardSwish", (Free(("N", 3, 4, 6), "distinct", 5.0),), torch=F.hardswish),
    Case("Tanh", (X,), torch=torch.tanh),
    Case("Softplus", (X,), torch=F.softplus),
    Case("Softsign", (X,), torch=F.softsign),
    Case("Mish", (X,), torch=F.mish),
    Case("Erf", (X,), torch=torch.erf),
    Case("Gelu", (X,), opset=20, torch=F.gelu),
    Case("Gelu", (X,), {"approximate": "tanh"}, opset=20, torch=lambda x: F.gelu(x, approximate="tanh")),
    Case("Add", (A, B), torch=torch.add),
    Case("Add", (A, Free((4, 1))), torch=torch.add),
    Case("Add", (Free((5,)), A), torch=torch.add),
    Case("Sub", (A, B), torch=torch.sub),
    Case("Sub", (Free(("N", 1, 4, 1)), Free(("N", 3, 1, 5))), torch=torch.sub),
    Case("Mul", (A, B), torch=torch.mul),
    Case("Mul", (A, Free(("N", 3, 1, 1))), torch=torch.mul),
    Case("Div", (A, B), torch=torch.div),
    Case("Div", (Free(("N", 3, 1, 5)), Free((4, 5), "positive")), torch=torch.div),
    Case("Pow", (P, f32(2.0)), torch=lambda x: x**2),
    Case("Pow", (X, f32(3.0)), torch=lambda x: x**3),
    Case("Pow", (P, f32(0.5)), torch=lambda x: x**0.5),
    Case("Pow", (P, f32(1.0)), torch=lambda x: x**1),
    Case("Pow", (P, np.array(-1.5, np.float32)), torch=lambda x: x**-1.5),
    Case("Pow", (X, np.array([2, 3, 1, 2, 4], np.int64))),
    Case("Pow", (P, Free((4, 5))), torch=torch.pow),
    Case("Sqrt", (P,), torch=torch.sqrt),
    Case("Reciprocal", (P,), torch=torch.reciprocal),
    Case("Exp", (X,), torch=torch.exp),
    Case("Log", (P,), torch=torch.log),
    Case("Sin", (X,), torch=torch.sin),
    Case("Cos", (X,), torch=torch.cos),
    Case("Abs", (X,), torch=torch.abs),
    Case("Neg", (X,), torch=torch.neg),
    Case("Sum", (A, B, Free((5,))), torch=lambda a, b, c: a + b + c),
    Case("Mean", (A, B, Free((5,))), torch=lambda a, b, c: (a + b + c) / 3),
    Case("Min", (Free(("N", 3, 4), "away"), Free(("N", 3, 4), "away")), torch=torch.minimum),
    Case("Max", (Free(("N", 3, 4), "away"), Free((3, 1), "away")), torch=torch.maximum),
    Case("Max", (A, f32(0.0))),
    Case("Clip", (D, *f32(-0.4, 0.3)), torch=lambda x: x.clamp(*f32(-0.4, 0.3))),
    Case("Clip", (Free(("N", 3, 4), "distinct"), None, f32(0.3)[0])),
    Case("Clip", (Free(("N", 3, 4), "distinct"), f32(-0.4)[0])),
    Case("Clip", (Free(("N", 3, 4), "distinct"),)),
    Case("Where", (np.array([True, False, True, True]), Free(("N", 3, 4)), Free((3, 1)))),
    Case("Where", (np.array([[True], [False], [True]]), Free(("N", 1, 4)), Free(("N", 3, 4)))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
