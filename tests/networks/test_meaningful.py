"""Meaningful perturbation: the paper's objective on the live torch network, with autograd and torch's Adam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.errors import NotApplicableError, OptionError

from ..exporters.running import both_ways
from .outputs.nets import SIZE, Embedding, UNet, images, saved
from .test_extremal import blurred


def reference(
    score: Any, x: torch.Tensor, steps: int, cells: int, l1: float, l2: float, beta: float, blur: float
) -> torch.Tensor:
    """1 - m of the minimum that Adam finds (equation 6)."""
    return minimum(score, x, steps, cells, l1, l2, beta, blur)[0]


def minimum(
    score: Any, x: torch.Tensor, steps: int, cells: int, l1: float, l2: float, beta: float, blur: float
) -> tuple[torch.Tensor, float, float]:
    """1 - m, the objective there, and its score."""
    m = torch.ones(1, 1, cells, cells, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([m], lr=0.1)
    background = blurred(x, blur)

    def terms() -> tuple[torch.Tensor, Any, Any]:
        large = functional.interpolate(m, size=tuple(x.shape[1:]), mode="bilinear")[0]
        rough = m.diff(dim=2).abs().pow(beta).mean() + m.diff(dim=3).abs().pow(beta).mean()
        reached = score((large * x + (1 - large) * background)[None])
        return large, l1 * (1 - m).abs().mean() + l2 * rough + reached, reached

    for _ in range(steps):
        _, energy, _ = terms()
        optimiser.zero_grad()
        energy.backward()
        optimiser.step()
        with torch.no_grad():
            m.clamp_(0, 1)
    large, energy, reached = terms()
    return 1 - large[0].detach(), energy.item(), reached.item()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["softmax", "logit"])
def test_the_masks_are_the_papers(tmp_path: Path, backend: str, kind: str) -> None:
    network = Embedding()
    request = Request(
        saved(network, tmp_path / "net.onnx"), output_path=tmp_path / "net.xai", preprocess="none",
        roles=("network", "input-gradient"),
    )  # fmt: skip
    explainer = Explainer(export(request).path, backend, batch_size=2)
    network.double()
    prices = {"l1": 0.005, "l2": 0.02, "beta": 2.5, "blur": 3.0}
    seed = torch.tensor([0, -1, 0, 0, 1, 0]).double()

    def score(x: torch.Tensor) -> torch.Tensor:
        y = network(x)[0]
        number: torch.Tensor = (y.softmax(0) if kind == "softmax" else y) @ seed
        return number

    for count in (1, 3):
        x = images(count) * 3
        got = explainer.explain(x, "meaningful-perturbation", "4 vs 1", score=kind, cells=6, iterations=20, **prices)
        for i in range(count):
            want, objective, reached = minimum(score, torch.from_numpy(x[i]).double(), 20, 6, **prices)
            np.testing.assert_allclose(got.raw[i], want, atol=1e-3)
            np.testing.assert_allclose(got.diagnostics["objective"][i], objective, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(got.diagnostics["score"][i], reached, rtol=1e-4, atol=1e-5)
    assert got.raw.std() > 0.02  # the masks have moved


def test_a_region(tmp_path: Path) -> None:
    """The softmax is that over the classes of the region's mean scores."""
    network = UNet("bilinear")
    source = saved(network, tmp_path / "net.onnx")
    done = export(Request(source, output_path=tmp_path / "net.xai", preprocess="none", input_gradient=True))
    network.double()
    x = images(1)
    got = Explainer(done.path).explain(x, "meaningful-perturbation", "2@3,4,10,9", cells=4, iterations=8)
    box = torch.zeros(SIZE).bool()
    box[4:13, 3:13] = True
    want, objective, _ = minimum(
        lambda image: network(image)[0][:, box].mean(1).softmax(0)[2],
        torch.from_numpy(x[0]).double(), 8, 4, 0.01, 0.2, 3.0, 10.0,
    )  # fmt: skip
    np.testing.assert_allclose(got.raw[0], want, atol=1e-3)
    np.testing.assert_allclose(got.diagnostics["objective"][0], objective, rtol=1e-4)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_numbers(tmp_path: Path, backend: str) -> None:
    """A number of any unit, up and down, is measured by what the blur of the whole image changes."""
    network = Embedding()
    source = saved(network, tmp_path / "net.onnx")
    with torch.no_grad():
        network.last.weight.mul_(1000)
    onnx.save(both_ways(network, False, (3, *SIZE)), source)
    explainer = Explainer(
        export(
            Request(
                source,
                output_path=tmp_path / "net.xai",
                preprocess="none",
                task="numbers",
                roles=("network", "input-gradient"),
            )
        ).path,
        backend,
    )
    network.double()
    x = images(2) * 3
    given = {"cells": 6, "iterations": 12, "l1": 0.005, "l2": 0.02, "beta": 2.5, "blur": 3.0}
    for target, number, sign in (("#3", 3, 1), ("not #4", 4, -1)):
        got = explainer.explain(x, "meaningful-perturbation", target, **given)
        assert got.raw.std() > 0.02  # the masks have moved
        for i, one in enumerate(torch.from_numpy(x).double()):
            change = (network(one[None]) - network(blurred(one, 3.0)[None]))[0, number].abs().item()

            def score(image: torch.Tensor, factor: float = sign / change, number: int = number) -> torch.Tensor:
                return torch.Tensor(factor * network(image)[0, number])

            want, objective, reached = minimum(score, one, 12, 6, 0.005, 0.02, 2.5, 3.0)
            np.testing.assert_allclose(got.raw[i], want, atol=1e-3)
            np.testing.assert_allclose(got.diagnostics["objective"][i], objective, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(got.diagnostics["score"][i], reached, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cells": 1}, OptionError, "cells are at least 2, iterations at least 1"),
        ({"l1": -1.0}, OptionError, "l1 and l2 are 0 or more, beta is 1 or more, blur above 0"),
        ({"score": "softmax"}, NotApplicableError, "score 'softmax' is for classes; give score='logit'"),
    ],
)
def test_refusals(tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    request = Request(
        saved(Embedding(), tmp_path / "net.onnx"), output_path=tmp_path / "net.xai", preprocess="none",
        roles=("network", "input-gradient"), task="numbers",
    )  # fmt: skip
    with pytest.raises(error, match=f"meaningful-perturbation: {message}"):
        Explainer(export(request).path).explain(images(1), "meaningful-perturbation", "#0", **options)
