"""What rounding in float32 decides is measured, recorded and said: `rounding.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from xai_exporters import Request, export
from xai_exporters.bundle import rounding as measured
from xai_exporters.bundle.beside import patterned_images
from xai_exporters.cli import main

from xai_deploy import Explainer
from xai_deploy.faithful import PRODUCTS, ROUNDING, percent, rounding

from .. import onnx_nets as o
from ..running import export_onnx


class Normalised(nn.Module):
    """A LayerNorm over the channels reads the layer `stem`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8, eps=0.0), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(self.head(torch.relu(self.norm(self.stem(x).flatten(2).transpose(1, 2))).mean(1)))


def test_a_map_before_a_normalisation_is_rounding_noise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    network = Normalised().eval()
    # Euler's theorem: y(t x) = y(x) for all t > 0, so the sum of x dy/dx vanishes; in float64 by torch
    layer = network.double().stem(torch.rand(1, 3, 16, 16).double()).detach().requires_grad_()
    tokens = network.norm(layer.flatten(2).transpose(1, 2))
    [g] = torch.autograd.grad(network.head(torch.relu(tokens).mean(1))[0, 1], layer)
    products = (g * layer).detach()
    assert float(products.sum(1).abs().max()) < 1e-12 * float(products.abs().max())
    torch.save(network.float(), tmp_path / "net.pt")
    for split, says in (("stem", {PRODUCTS: 1.0}), ("norm", {})):
        path = tmp_path / f"{split}.xai"
        done = export(Request(tmp_path / "net.pt", output_path=path, trust_code=True, input_shape=(3, 16, 16),
                              preprocess="assume", split=split))  # fmt: skip
        assert rounding(done.manifest) == says
        caplog.clear()
        explainer = Explainer(path, "onnxruntime")
        x = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
        for method in ("hires-cam", "grad-cam", "hires-cam"):
            explainer.explain(x, method, 1)
        assert caplog.text.count("hires-cam: at this layer gradient times activation cancels") == len(says)
        assert "grad-cam:" not in caplog.text


def test_a_fused_map_before_a_normalisation_is_rounding_noise(tmp_path: Path) -> None:
    """A bundle whose only graph of hires-cam is the fused one."""
    torch.manual_seed(0)
    torch.save(Normalised().eval(), tmp_path / "net.pt")
    for split in ("stem", "norm"):
        done = export(Request(tmp_path / "net.pt", output_path=tmp_path / f"{split}.xai", trust_code=True, roles=("head",),
                              input_shape=(3, 16, 16), preprocess="assume", split=split, fuse=("hires-cam",)))  # fmt: skip
        assert "gradient" not in done.manifest.graphs
        assert (rounding(done.manifest).get("fused-hires-cam", 0.0) > 0.01) == (split == "stem")


def test_inputs_are_moved_by_a_rounding() -> None:
    """All runs of a graph round alike; a result that its input's rounding decides is seen nevertheless."""

    def run(feeds: Any) -> Any:  # x - 1 near 1: the last digits of x
        return {"relevance": (feeds["activation"] - 1).astype(np.float32), "logits": np.zeros((2, 3), np.float32)}

    for value, decided in ((1 + 1e-6, True), (3.0, False)):
        manifest: Any = SimpleNamespace(
            logits_step=0.0, extensions={}, graphs={"relevance": SimpleNamespace(propagated="relevance")}
        )
        feeds = {"activation": np.full((2, 4), value, np.float32), "target": np.array([-1, -1])}
        measures = measured.Rounding(manifest)
        measures.add("relevance", run(feeds), feeds, lambda: run)
        assert bool(measures.shares()) == decided


def test_the_largest_of_several_draws_counts_unless_the_first_is_small() -> None:
    """relevance = 1 + c (activation - 1): a draw moves it by c times its own rounding, so the shares are known."""
    x = np.full((1, 4, 4, 4), 3.0, np.float32)
    feeds: dict[str, Any] = {"activation": x, "target": np.zeros(1, np.int64)}
    draws = [np.random.default_rng(seed).standard_normal(x.shape) for seed in range(4)]
    for slope, used in ((1.0, 1), (1e5, 4)):
        ran: list[Any] = []

        def run(given: Any, slope: float = slope, ran: list[Any] = ran) -> Any:
            ran.append(given)
            moved = given["activation"].astype(np.float64) - 3
            return {"relevance": 1 + slope * moved, "logits": np.zeros((1, 2), np.float32)}

        manifest: Any = SimpleNamespace(
            logits_step=0.0, extensions={}, graphs={"relevance": SimpleNamespace(propagated="relevance")}
        )
        measures = measured.Rounding(manifest)
        measures.measure("relevance", "relevance", feeds, run)
        assert len(ran) == 1 + used
        want = max(
            slope * float(np.abs((x * (1 + 2.0**-23 * draw)).astype(np.float32) - x.astype(float)).max())
            for draw in draws[:used]
        )
        assert measures.all_shares()["relevance"] == pytest.approx(want, rel=1e-6)


def test_advice() -> None:
    """A composite that does not help, and a gradient method in place of a gradient, are not advised."""
    advice = "rounding in float32 decides 30 % of its largest value; take a layer nearer the scores"
    assert measured.why_unusable("gradient", 0.3) == advice
    assert (
        measured.why_unusable("pixel-relevance", 0.3)
        == f"{advice}, or --composite split-residuals, or a gradient method"
    )
    assert measured.why_unusable("relevance-split-residuals", 0.3) == f"{advice}, or a gradient method"
    assert measured.why_unusable("relevance", 0.1) is None
    shares = {0.0057: "0.57", 0.014: "1.4", 0.3: "30", 0.994: "99", 0.996: "100", 1.0: "100", 7.0: "100"}
    assert {share: percent(share) for share in shares} == shares
    assert str(measured.why_unusable("gradient", 1.0)).startswith(
        "rounding in float32 decides 100 % of its largest value;"
    )


def test_shares() -> None:
    exact = np.array([[2.0, -4.0], [0.0, 0.0], [1.0, 0.5]])
    assert measured._share(exact + np.array([[0.0, 0.4], [9.0, 9.0], [0.2, 0.0]]), exact) == pytest.approx(0.2)
    assert measured._share(exact * np.nan, exact) == 0


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the relevance differ by a share."""

    def by(share: float) -> None:
        monkeypatch.setattr(measured, "_share", lambda got, exact: share)

    return by


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_images_of_patterns_are_told_and_leave_nothing_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float
) -> None:
    """Patterns come one at a time, noise three at once. A share of one half on noise leaves relevance out, see below."""
    monkeypatch.setattr(measured, "_share", lambda got, exact: share if len(exact) == 1 else 0.001)
    manifest = export_onnx(tmp_path, o.classifier()).manifest
    assert rounding(manifest) == {"relevance": share}
    assert "relevance" in manifest.graphs


def test_patterns(tmp_path: Path) -> None:
    """Two images of 8 x 8 squares over the whole range, two whose values lie within a tenth of it: pixels of 0 to 255 here."""
    spec = export_onnx(tmp_path, o.classifier(), roles=("gradient",)).manifest.input
    images = patterned_images(spec)
    assert [image.shape for image in images] == [(1, *spec.image_shape)] * 4
    height, width = spec.size
    for image in images[:2]:
        for row in range(8):
            for column in range(8):
                rows = [i for i in range(height) if i * 8 // height == row]
                columns = [j for j in range(width) if j * 8 // width == column]
                assert np.ptp(image[0][:, rows][:, :, columns], axis=(1, 2)).max(initial=0) == 0
        assert np.ptp(image) > 200
    assert all(0 < np.ptp(image) <= 27 and abs(image.mean() - 127.5) < 3 for image in images[2:])
    assert not np.array_equal(images[0], images[1])


def test_relevance_that_rounding_decides_is_said(
    rounds: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rounds(0.05)
    done = export_onnx(tmp_path, o.classifier())
    assert done.manifest.extensions[ROUNDING] == "gradient 0.05; relevance 0.05"
    Explainer(done.path, "onnxruntime").explain(
        np.zeros((1, *done.manifest.input.image_shape), np.float32), "relevance-cam", 0
    )
    assert (
        "relevance-cam: maps of the relevance graph are decided by rounding in float32 to 5 % of their largest value"
        in caplog.text
    )
    source = str(tmp_path / "net.onnx")
    main([source, "-o", str(tmp_path / "again.xai"), "--preprocess", "none"])
    assert "Maps of the relevance graph are decided by rounding in float32 to 5 %" in capsys.readouterr().out


def test_relevance_that_rounding_decides_alone_is_left_out(rounds: Any, tmp_path: Path) -> None:
    rounds(0.5)
    manifest = export_onnx(tmp_path, o.classifier()).manifest
    assert set(manifest.graphs) >= {"head", "tail"}
    assert not {"relevance", "gradient"} & set(manifest.graphs)
    assert manifest.left_out["relevance"].startswith(
        "rounding in float32 decides 50 % of its largest value; take a layer nearer the scores"
    )
    assert ROUNDING not in manifest.extensions


def test_a_role_that_was_asked_for_stays(rounds: Any, tmp_path: Path) -> None:
    rounds(0.5)
    manifest = export_onnx(tmp_path, o.classifier(), roles=("relevance",)).manifest
    assert manifest.extensions[ROUNDING] == "relevance 0.5"


def test_a_strangers_entry_is_skipped(tmp_path: Path) -> None:
    manifest = export_onnx(tmp_path, o.classifier(), roles=("tail",)).manifest
    for text in ("", "relevance", "relevance x", "relevance -1; ; gradient nan", "relevance inf"):
        assert rounding(replace(manifest, extensions={ROUNDING: text})) == {}
