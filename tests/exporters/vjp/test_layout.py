"""Operators that move values about, and those that pick them by index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from .harness import Case, Free, check

X = Free(("N", 4, 6, 8))


def ints(*values: Any) -> Any:
    return np.array(values, np.int64)


CASES = [
    Case("Reshape", (X, ints(-1, 24, 8)), torch=lambda x: x.reshape(-1, 24, 8)),
    Case("Reshape", (X, ints(0, 0, -1))),
    Case("Reshape", (X, ints(-1, 8)), torch=lambda x: x.reshape(-1, 8)),
    Case("Flatten", (X,), {"axis": 2}),
    Case("Flatten", (X,), torch=lambda x: x.flatten(1)),
    Case("Squeeze", (Free(("N", 1, 3, 1)), ints(1, -1))),
    Case("Squeeze", (Free((3, 1, 4, 1)),)),
    Case("Unsqueeze", (Free(("N", 3)), ints(1, -1))),
    Case("Transpose", (X,), {"perm": [0, 2, 3, 1]}, torch=lambda x: x.permute(0, 2, 3, 1)),
    Case("Transpose", (X,), {"perm": [0, 3, 1, 2]}),
    Case("Transpose", (Free((3, 4, 5)),)),
    Case("Identity", (X,)),
    Case("Dropout", (X,)),
    Case("Expand", (Free(("N", 1, 4)), ints(1, 3, 1)), torch=lambda x: x.expand(-1, 3, -1)),
    Case("Expand", (Free((4,)), ints(2, 3, 4)), torch=lambda x: x.expand(2, 3, 4)),
    Case("Concat", (Free(("N", 2, 3)), Free(("N", 4, 3))), {"axis": 1}, torch=lambda a, b: torch.cat([a, b], 1)),
    Case("Concat", (Free((1, 2, 3)), np.ones((1, 2, 1), np.float32), Free((1, 2, 2))), {"axis": -1}),
    Case("Split", (X, ints(1, 2, 1)), {"axis": 1}, outputs=3, output=1, torch=lambda x: x[:, 1:3]),
    Case("Split", (X,), {"axis": -1, "num_outputs": 3}, outputs=3, output=2, reason="OpenVINO wants even pieces"),
    Case("Slice", (X, ints(1), ints(3), ints(2)), torch=lambda x: x[:, :, 1:3]),
    Case("Slice", (X, ints(1, -3), ints(1000, -1), ints(1, 3)), torch=lambda x: x[:, 1:, :, -3:-1]),
    Case("Slice", (X, ints(1), ints(6), ints(3), ints(2)), torch=lambda x: x[..., 1:6:2]),
    Case("Slice", (X, ints(-1), ints(-1000), ints(3), ints(-1)), torch=lambda x: x.flip(3)),
    Case("Slice", (X, ints(6), ints(0), ints(3), ints(-2))),
    Case("Slice", (X, ints(5), ints(-8), ints(3), ints(-3))),
    Case("Slice", (X, ints(0, 1, 2), ints(1 << 62, 3, 5)), torch=lambda x: x[:, 1:3, 2:5]),
    Case("Pad", (X, ints(0, 0, 1, 2, 0, 0, 3, 0), np.array(0.5, np.float32)), torch=lambda x: pad(x, (2, 0, 1, 3), value=0.5)),
    Case("Pad", (X, ints(0, 0, -1, 2, 0, 0, 1, -2))),
    Case("Pad", (X, ints(1, 2, 0, 1), None, ints(2, -1))),
    Case("Pad", (X, ints(0, 0, 2, 3, 0, 0, 1, 2)), {"mode": "reflect"}, torch=lambda x: pad(x, (3, 2, 2, 1), "reflect")),
    Case("Pad", (X, ints(0, 0, 2, 3, 0, 0, 1, 0)), {"mode": "edge"}, torch=lambda x: pad(x, (3, 0, 2, 1), "replicate")),
    Case("Pad", (X, ints(0, 0, 6, 0, 0, 0, 5, 0)), {"mode": "edge"}),
    Case("Pad", (X, ints(0, 0, 2, 3, 0, 0, 1, 2)), {"mode": "wrap"}, opset=19, reason="no wrapping in OpenVINO",
         torch=lambda x: pad(x, (3, 2, 2, 1), "circular")),
    Case("Tile", (X, ints(1, 2, 1, 3)), torch=lambda x: x.tile(1, 2, 1, 3)),
    Case("DepthToSpace", (X,), {"blocksize": 2}),
    Case("DepthToSpace", (X,), {"blocksize": 2, "mode": "CRD"}, torch=lambda x: torch.nn.functional.pixel_shuffle(x, 2)),
    Case("SpaceToDepth", (X,), {"blocksize": 2}),
    Case("Cast", (X,), {"to": 1}),
    Case("Gather", (X, ints(2, 0, 2, -1)), {"axis": 2}, torch=lambda x: x[:, :, [2, 0, 2, 5]]),
    Case("Gather", (X, ints(1, 0, 3, 2)), {"axis": 1}, torch=lambda x: x[:, [1, 0, 3, 2]]),
    Case("Gather", (X, ints(*[3] * 6, 1)), {"axis": 1}, torch=lambda x: x[:, [3] * 6 + [1]]),
    Case("Gather", (X, np.array(-2, np.int64)), {"axis": 1}, torch=lambda x: x[:, 2]),
    Case("Gather", (X, np.array([3], np.int64)), {"axis": -1}, torch=lambda x: x[..., 3:4]),
    Case("Gather", (X, np.array([[0, 1], [5, 1]], np.int64)), {"axis": 2}),
    Case("GatherElements", (Free((3, 4)), ints([0, 1, 2, 0], [2, -2, 0, 1])), torch=None),
    Case("GatherElements", (Free((3, 4)), ints([0, 1], [3, 3], [2, 1])), {"axis": 1}),
    Case("GatherND", (Free((3, 4, 5)), ints([0, 1], [2, 3], [0, 1])), torch=lambda x: x[[0, 2, 0], [1, 3, 1]]),
    Case("GatherND", (Free((3, 4, 5)), ints([[0], [1]], [[3], [3]], [[2], [0]])), {"batch_dims": 1}),
    Case("GatherND", (Free((2, 3, 4, 5)), np.array([[[3], [0], [1]], [[2], [2], [0]]], np.int64)), {"batch_dims": 2}),
    Case("ScatterND", (Free((4, 5)), ints([1], [3]), Free((2, 5)))),
    Case("ScatterND", (Free((4, 5)), ints([1, 0], [3, 4], [1, 0]), Free((3,))), {"reduction": "add"}),
    Case("ScatterElements", (Free((3, 4)), ints([0, 1], [3, 2], [2, 1]), Free((3, 2))), {"axis": 1}),
    Case("ScatterElements", (Free((3, 4)), ints([0, 0], [3, 2], [2, 1]), Free((3, 2))), {"axis": -1, "reduction": "add"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
