"""Tensors made out of a few numbers: `made.py`."""

import numpy as np
import pytest
import torch
from onnx import helper

from .harness import RUNTIMES, Case, Free, check, gradient_model, graph_model, reference

INDICES = np.array([[0, 2, -1], [1, 3, 0]])


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def values_at(values: torch.Tensor) -> torch.Tensor:
    """Off and on along a new axis in the middle."""
    return values[torch.nn.functional.one_hot(torch.tensor(INDICES % 4), 4).movedim(-1, 1)]


CASES = [  # as many numbers for each start from 0 to 2
    Case(
        "Range",
        (Free((), "positive"), number(8.7), number(3)),
        torch=lambda start: start + 3 * torch.arange(3, dtype=start.dtype),
    ),
    Case("Range", (Free((), "positive"), number(-6.5), number(-3))),
    Case("OneHot", (INDICES, np.array(4), Free((2,))), {"axis": 1}, torch=values_at),
    Case("OneHot", (INDICES, np.array(4), Free((2,)))),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


def test_the_step_of_a_range() -> None:
    """y_i = 0.5 + i (1 + x): dx = sum of i dy_i."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["step"]),
        helper.make_node("Range", ["start", "end", "step"], ["y"]),
    ]
    constants = {"one": number(1), "start": number(0.5), "end": number(4.2)}
    gradient = gradient_model(graph_model(nodes, {"x": []}, constants), "x")
    dy = np.array([3, -1, 2, 5], np.float32)
    for name, make in {**RUNTIMES, "reference": reference}.items():
        np.testing.assert_allclose(
            make(gradient, "dx")({"x": number(0.1), "dy": dy}), -1 + 4 + 15, rtol=1e-6, err_msg=name
        )
