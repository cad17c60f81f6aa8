"""Quantisers written out, Round between a scale and its inverse: the gradient at the image against torch's straight-through one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from xai_exporters import Request, export

from xai_deploy import Explainer

from ..checks import close
from ..running import HEAD_AND_TAIL, both_ways

SIZE = (18, 14)
SCALE = torch.tensor([0.05, 0.08, 0.11]).reshape(3, 1, 1)


def rounded(x: Tensor, straight: bool) -> Tensor:
    """round(x); its gradient is 1 if `straight`, 0 otherwise."""
    return x + (torch.round(x) - x).detach() if straight else torch.round(x)


def floored(x: Tensor, straight: bool) -> Tensor:
    """floor(x + 0.5), as `rounded`."""
    return x + (torch.floor(x + 0.5) - x).detach() if straight else torch.floor(x + 0.5)


def around(v: Tensor, r: Tensor) -> Tensor:
    """LSQ's `round_pass`: straight around the rounding alone, in the file, too."""
    return (r - v).detach() + v


def spread(x: Tensor) -> Tensor:
    """A scale of each image's own."""
    return x.abs().amax((1, 2, 3), keepdim=True) / 15


FORMS: dict[str, Callable[[Tensor, bool], Tensor]] = {
    "clipped": lambda x, s: torch.clamp(rounded(x / 0.07, s), -9, 12) * 0.07,
    "with a zero point": lambda x, s: (torch.clamp(rounded(x / 0.07, s) + 120, 0, 255) - 120) * 0.07,
    "by an inverse": lambda x, s: rounded(x * 16, s) / 16,
    "a scale for each channel": lambda x, s: rounded(x / SCALE, s) * SCALE,
    "LSQ": lambda x, s: around(v := torch.clamp(x / 0.07, -9, 12), torch.round(v)) * 0.07,
    "LSQ, turned": lambda x, s: ((v := x * 16) + (torch.round(v) - v).detach()) / 16,
    "LSQ, clipped after it": lambda x, s: torch.clamp(around(v := x / 0.07, torch.round(v)) + 120, 110, 133) * 0.07,
    "saturated, straight through in training": lambda x, s: x + (torch.clamp(torch.round(x / 0.07), -9, 12) * 0.07 - x).detach(),
    "signs": lambda x, s: x + (torch.sign(x) - x).detach(),
    "signs by a choice": lambda x, s: around(o := torch.clamp(x, -1, 1), torch.where(o >= 0, 1.0, -1.0) * 0.4),
    "signs with a curve": lambda x, s: around(torch.tanh(2 * x), torch.sign(x)),
    "by floor": lambda x, s: floored(x / 0.07, s) * 0.07,
    "LSQ by floor": lambda x, s: around(v := x / 0.07, torch.floor(v + 0.5)) * 0.07,
    "a scale of each image": lambda x, s: torch.clamp(rounded(x / spread(x), s), -9, 12) * spread(x),
    "a scale of each image, turned": lambda x, s: rounded(x * (t := 15 / x.abs().amax((1, 2, 3), keepdim=True)), s) / t,
    "straight through in training": lambda x, s: x + (torch.round(x * 16) / 16 - x).detach(),
    "the rest of a division": lambda x, s: x - torch.round(x / 0.5) * 0.5,
    "a step": lambda x, s: torch.round(x * 3) + x,
}  # fmt: skip


class Net(nn.Module):
    def __init__(self, form: str, straight: bool) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.last = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 4)
        self.form, self.straight = FORMS[form], straight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(self.form(x, self.straight)))
        return Tensor(self.last(F.adaptive_avg_pool2d(x, 1).flatten(1)))


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_at_the_image(form: str, tmp_path: Path) -> None:
    """Training code that is straight-through is its own oracle; what is no quantiser keeps torch's own gradient."""
    own = form in ("the rest of a division", "a step")
    onnx.save(both_ways(Net(form, False), False, (3, *SIZE)), tmp_path / "net.onnx")
    request = Request(
        tmp_path / "net.onnx",
        output_path=tmp_path / "net.xai",
        preprocess="none",
        input_gradient=True,
        roles=HEAD_AND_TAIL,
    )
    assert "input-gradient" in export(request).manifest.graphs
    x = torch.randn((3, 3, *SIZE), generator=torch.Generator().manual_seed(2)).requires_grad_()
    Net(form, not own)(x)[:, 2].sum().backward()
    assert x.grad is not None
    want = x.grad.abs().amax(1).numpy()
    for backend in ("onnxruntime", "openvino"):
        got = Explainer(tmp_path / "net.xai", backend).explain(x.detach().numpy(), "gradient", 2).raw
        close(got / np.abs(want).max(), want / np.abs(want).max())
