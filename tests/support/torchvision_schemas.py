"""Lets `import torchvision` succeed where its compiled half does not load (a CUDA-built torchvision beside a CPU torch).

For the test environment alone: `scripts/test` copies this file into the environment's site-packages beside a `.pth` file that
imports it. torchvision only needs to find the schemas of two detection operators, which no classification network calls.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

_keep: list[Any] = []  # a torch Library unregisters its schemas when it is collected


class _BeforeTorchvision(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _keep.append(library)


sys.meta_path.insert(0, _BeforeTorchvision())
