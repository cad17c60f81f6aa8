"""One network, in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from . import networks
from .checks import examine


def examine_in(name: str, exporter: str, folder: Path, known: str) -> None:
    """Examine one network, step by step.

    Args:
        name: As `networks.names` gives it.
        exporter: One of torch's, "dynamo" or "torchscript".
        folder: Gets result.json, written again with each step, and log, what is printed.
        known: The variant, if it is known; else "".
    """
    with open(folder / "log", "wb") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    result: dict[str, Any] = {"name": name, "exporter": exporter}

    def say(step: str) -> None:
        result["step"] = step
        (folder / "result.json").write_text(json.dumps(result))

    say("building")
    started = time.process_time()
    try:
        network, variant, side = networks.build(name, known or None)
    except Exception as error:
        result["error"] = reason(error)
        say("done")
        return
    result |= {
        "variant": variant,
        "side": side,
        "weights": sum(p.numel() for p in network.parameters()),
    }
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    path = folder / "net.onnx"
    say("torch.onnx.export")
    try:
        _plain_export(network, image, path, dynamo=exporter == "dynamo")
    except Exception as error:
        result["torch"] = reason(error)
    else:
        examine(path, network, image, result, say)
    result["seconds"] = round(time.process_time() - started, 1)
    say("done")


class _Scores(torch.nn.Module):
    """A transformers network that gives a tensor: torch's old exporter refuses its dicts.

    It takes over the network's mode, to which torch's old exporter sets all parts again. In training mode, the default of a new
    module, parts of the network are dropped at random, and what it is compared with is random, too.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return networks.logits(self.network(image))


def _plain_export(network: torch.nn.Module, image: torch.Tensor, path: Path, dynamo: bool) -> None:
    """torch.onnx.export as most users write it."""
    if hasattr(network, "config") and not dynamo:
        network = _Scores(network)
    torch.onnx.export(network, (image,), str(path), dynamo=dynamo, verbose=False)


def reason(error: BaseException) -> str:
    """An exception in one line; torch's exporters wrap the one that says what happened."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
