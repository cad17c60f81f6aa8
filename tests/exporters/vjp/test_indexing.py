"""Operators that pick and place values by index: `indexing.py`, `axis.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .harness import Case, Free, Given, check, check_at, double, ints, weights

X = Free(("N", 4, 6, 8))
PICKS = ints([0, 1, 2, 0], [2, 2, 0, 1])
ROWS, COLUMNS = ints([0, 1], [3, 3], [2, 1]), ints([0, 3, 1], [2, 1, 0])
HIT, SPREAD = ints([0, 1], [3, 2], [2, 1]), ints([0, 0], [3, 2], [2, 2])


def scattered(x: torch.Tensor, dim: int, index: np.ndarray, values: torch.Tensor, add: bool = False) -> torch.Tensor:
    where = torch.from_numpy(index)
    return x.scatter_add(dim, where, values) if add else x.scatter(dim, where, values)


CASES = [
    Case("Gather", (X, ints(2, 0, 2, -1)), {"axis": 2}, torch=lambda x: x[:, :, [2, 0, 2, 5]]),
    Case("Gather", (X, ints(1, 0, 3, 2)), {"axis": 1}, torch=lambda x: x[:, [1, 0, 3, 2]]),
    Case("Gather", (X, ints(-1, 0)), {"axis": -1}, torch=lambda x: x[..., [7, 0]]),
    Case("Gather", (X, ints(*[3] * 6, 1)), {"axis": 1}, torch=lambda x: x[:, [3] * 6 + [1]]),
    Case("Gather", (X, ints(*[3] * 6, 1)), {"axis": 3}, torch=lambda x: x[..., [3] * 6 + [1]]),
    Case("Gather", (X, ints(*[3] * 6, 1)), {"axis": 2}, torch=lambda x: x[:, :, [3] * 6 + [1]]),
    Case("Gather", (X, np.array(-2, np.int64)), {"axis": 1}, torch=lambda x: x[:, 2]),
    Case("Gather", (X, np.array(0, np.int32)), {"axis": 1}, torch=lambda x: x[:, 0]),
    Case("Gather", (X, np.array([3], np.int64)), {"axis": -1}, torch=lambda x: x[..., 3:4]),
    Case("Gather", (X, ints([2])), {"axis": 1}, torch=lambda x: x[:, [[2]]]),
    Case("Gather", (X, ints([0, 1], [5, 1])), {"axis": 2}, torch=lambda x: x[:, :, [[0, 1], [5, 1]]]),
    Case("Gather", (Free((5, 3)), ints(4, 4, 0)), torch=lambda x: x[[4, 4, 0]]),
    Case("Gather", (Free((5, 3)), Given(ints(4, -1, 0, 2))), torch=lambda x: x[[4, 4, 0, 2]]),  # computed
    Case("Gather", (Free((5, 3)), Given(np.array([4, -1, 0, 2], np.int32))), torch=lambda x: x[[4, 4, 0, 2]]),
    Case("GatherElements", (Free((3, 4)), PICKS), torch=lambda x: x.gather(0, torch.from_numpy(PICKS))),
    Case("GatherElements", (Free((3, 4)), ints([0, 1, 2, 0], [2, -2, 0, -1]))),
    Case("GatherElements", (Free((3, 4)), ROWS), {"axis": 1}, torch=lambda x: x.gather(1, torch.from_numpy(ROWS))),
    Case("GatherElements", (Free((3, 4)), Given(ROWS)), {"axis": 1}, torch=lambda x: x.gather(1, torch.from_numpy(ROWS))),
    Case("GatherND", (Free((3, 4, 5)), ints([0, 1], [2, 3], [0, 1])), torch=lambda x: x[[0, 2, 0], [1, 3, 1]]),
    Case("GatherND", (Free((3, 4, 5)), Given(ints([0, 1, 4], [2, 3, 0], [-1, 3, 0]))),
         torch=lambda x: x[[0, 2, 2], [1, 3, 3], [4, 0, 0]]),
    Case("GatherND", (Free((3, 4, 5)), ints([[0], [1]], [[3], [3]], [[2], [0]])), {"batch_dims": 1},
         torch=lambda x: torch.stack([x[i, r] for i, r in enumerate([[0, 1], [3, 3], [2, 0]])])),
    Case("GatherND", (Free((2, 3, 4, 5)), ints([[3], [0], [1]], [[2], [2], [0]])), {"batch_dims": 2},
         torch=lambda x: torch.stack([x[0, [0, 1, 2], [3, 0, 1]], x[1, [0, 1, 2], [2, 2, 0]]])),
    Case("GatherND", (Free((2, 3, 4)), Given(ints([[3], [0], [1]], [[2], [2], [0]]))), {"batch_dims": 2}),
    Case("ScatterND", (Free((4, 5)), ints([1], [3]), Free((2, 5))),
         torch=lambda x, u: x.index_copy(0, torch.tensor([1, 3]), u)),
    Case("ScatterND", (Free((4, 5)), Given(ints([1, 0], [3, 4])), Free((2,)))),
    Case("ScatterND", (Free((4, 5)), ints([1, 0], [3, 4], [1, 0]), Free((3,))), {"reduction": "add"},
         torch=lambda x, u: x.index_put((torch.tensor([1, 3, 1]), torch.tensor([0, 4, 0])), u, True)),
    Case("ScatterElements", (Free((3, 4)), HIT, Free((3, 2))), {"axis": 1}, torch=lambda x, u: scattered(x, 1, HIT, u)),
    Case("ScatterElements", (Free((4, 3)), COLUMNS, Free((2, 3))), torch=lambda x, u: scattered(x, 0, COLUMNS, u)),
    Case("ScatterElements", (Free((3, 4)), SPREAD, Free((3, 2))), {"axis": -1, "reduction": "add"},
         torch=lambda x, u: scattered(x, 1, SPREAD, u, True)),
    *(Case("ScatterElements", (Free((3, 4), "distinct"), SPREAD, Free((3, 2), "away")), {"axis": 1, "reduction": how},
           torch=lambda x, u, how=how: x.scatter_reduce(1, torch.from_numpy(SPREAD), u, "a" + how)) for how in ("max", "min")),
    Case("ScatterElements", (Free((3, 4)), SPREAD, weights(1)(3, 2)), {"axis": 1, "reduction": "mul"},
         torch=lambda x: x.scatter_reduce(1, torch.from_numpy(SPREAD), double(weights(1)(3, 2)), "prod")),
    *(Case("ScatterND", (Free((4, 5), "distinct"), ints([1], [3], [1]), Free((3, 5), "away")), {"reduction": how})
      for how in ("max", "min")),
    Case("ScatterND", (Free((4, 5)), ints([1], [3], [1]), weights(1)(3, 5)), {"reduction": "mul"}),
    Case("ScatterND", (Free((4, 5)), ints([1], [3], [1]), Free((3, 5))), {"reduction": "mul"}),
    Case("ScatterElements", (Free((3, 4)), SPREAD, Free((3, 2))), {"axis": 1, "reduction": "mul"},
         torch=lambda x, u: x.scatter_reduce(1, torch.from_numpy(SPREAD), u, "prod")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


def test_a_product_with_zeros_among_the_updates() -> None:
    """One 0 takes the product of the others; beside a 0 the others take nothing."""
    case = next(c for c in CASES if c.op == "ScatterElements" and "mul" in c.attributes.values() and len(c.free) == 2)
    updates = np.array([[0, 2], [0.5, 0], [0, 0]])
    check_at(case, np.arange(1.0, 13).reshape(3, 4), updates)
