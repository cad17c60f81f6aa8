"""The discrete Fourier transform: `spectrum.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from .harness import Case, Free, check

REAL, COMPLEX = Free(("N", 5, 6, 1)), Free(("N", 5, 6, 2))


def transformed(x: torch.Tensor, dim: int, name: str = "fft", length: int | None = None) -> torch.Tensor:
    values = torch.view_as_complex(x) if x.shape[-1] == 2 else x[..., 0]
    return torch.view_as_real(getattr(torch.fft, name)(values, length, dim=dim))


def along(dim: int) -> tuple[Any, ...]:
    return (None, np.array(dim))


CASES = [
    Case("DFT", (REAL, *along(1)), opset=20, torch=lambda x: transformed(x, 1)),
    Case("DFT", (REAL, *along(-2)), {"onesided": 1}, opset=20, torch=lambda x: transformed(x, 2, "rfft")),
    Case("DFT", (COMPLEX, *along(1)), {"inverse": 1}, opset=20, torch=lambda x: transformed(x, 1, "ifft")),
    Case("DFT", (COMPLEX, np.array(4)), opset=20, torch=lambda x: transformed(x, 2, length=4)),
    Case("DFT", (REAL, np.array(7)), {"axis": 1}, torch=lambda x: transformed(x, 1, length=7)),
    *(Case("DFT", (COMPLEX, np.array(n), np.array(1)), {"inverse": 1, "onesided": 1}, opset=20,
           torch=lambda x, n=n: torch.fft.irfft(torch.view_as_complex(x), n, dim=1)[..., None]) for n in (8, 9)),
    Case("DFT", (COMPLEX,), torch=lambda x: transformed(x, 1)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
