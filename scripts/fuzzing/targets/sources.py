"""Files of networks as strangers send them: state dicts of both kinds, safetensors, ONNX, and the archives that need consent."""

from __future__ import annotations

import io
import os
import random
import warnings
from collections.abc import Sequence

import torch
from safetensors.torch import save
from xai_exporters import Request
from xai_exporters.sources import load_source

from ..formats.zips import mutate_zip
from ..material import folder, network
from ..mutations import mutate_bytes


class Tiny(torch.nn.Module):
    """What the weights are tried on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 3)
        self.fc = torch.nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [N,3] of images [N,3,H,W]."""
        scores: torch.Tensor = self.fc(self.conv(x).mean((2, 3)))
        return scores


def seeds() -> list[bytes]:
    """One file of each kind."""
    torch.manual_seed(0)
    net, files = Tiny(), [network().SerializeToString()]
    weights = net.state_dict()
    files.append(save(dict(weights)))
    for content, zipped in (
        (weights, True),
        (weights, False),
        ({"state_dict": weights, "epoch": 3}, True),
        (net, True),
    ):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        files.append(buffer.getvalue())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(net), buffer)
        files.append(buffer.getvalue())
        buffer = io.BytesIO()
        torch.export.save(torch.export.export(net.eval(), (torch.rand(2, 3, 8, 8),)), buffer)
        files.append(buffer.getvalue())
    return files


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Any bytes, or the numbers in an archive's records."""
    return mutate_zip(data, rng) if data.startswith(b"PK") and rng.random() < 0.4 else mutate_bytes(data, others, rng)


def one(data: bytes) -> None:
    """Read the network.

    Raises:
        XaiError: It is refused.
    """
    path = folder() / f"source-{os.getpid()}"
    path.write_bytes(data)
    load_source(Request(path, arch=f"{__name__}:Tiny", input_shape=(3, 8, 8)))
