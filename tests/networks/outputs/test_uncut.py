"""Networks that are not cut: the role `network`, for methods that need no layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from xai_exporters import Request, export
from xai_exporters.cli import main
from xai_exporters.errors import RequestError

from xai_deploy import Explainer, method_names
from xai_deploy.cli.check import main as check
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import NotApplicableError, OptionError
from xai_deploy.evaluation.metrics.curves import Deletion, areas_and_curves
from xai_deploy.methods import create
from xai_deploy.methods.rise import Rise

from .nets import SIZE, UNet, images, saved


class Plain(nn.Module):
    """A linear layer on pixels, then another: no tensor on the way is a feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3 * SIZE[0] * SIZE[1], 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.last(torch.tanh(self.first(x.flatten(1))))
        return logits


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    folder, network = tmp_path_factory.mktemp("plain"), Plain()
    request = Request(
        saved(network, folder / "net.onnx"), output_path=folder / "net.xai", preprocess="none", input_gradient=True
    )
    done = export(request)
    assert done.layer_note is not None
    assert done.layer_note.startswith(
        "the network stays whole, for methods that need no layer: the network can't be cut"
    )
    assert sorted(done.manifest.graphs) == ["input-gradient", "network"]
    return network, done.path


def rise(network: nn.Module, x: NDArray[np.float32], target: int, masks: NDArray[np.float32]) -> NDArray[Any]:
    """Equation 6 of Petsiuk et al. 2018, with given masks [M,H,W]: sum_i f(x * M_i) M_i / (M p), p = 1/2."""
    with torch.no_grad():
        scores = [network(torch.from_numpy(x * mask)).softmax(-1)[:, target].numpy() for mask in masks]
    maps: NDArray[Any] = np.einsum("mn,mhw->nhw", np.stack(scores), masks) / (len(masks) * 0.5)
    return maps


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 3])
def test_methods_that_need_no_layer(plain: tuple[nn.Module, Path], backend: str, count: int) -> None:
    network, bundle = plain
    explainer, x = Explainer(bundle, backend), images(count)
    rng = np.random.default_rng(3)
    masks = np.stack([Rise(masks=20, seed=3)._mask(rng, *SIZE) for _ in range(20)])
    got = explainer.explain(x, "rise", 2, masks=20, seed=3)
    np.testing.assert_allclose(got.raw, rise(network, x, 2, masks), atol=1e-5)
    given = torch.from_numpy(x).requires_grad_()
    logits = network(given)
    np.testing.assert_allclose(got.logits, logits.detach().numpy(), atol=1e-5)
    [gradient] = torch.autograd.grad(logits[:, 1].sum(), given)
    want = gradient.abs().amax(dim=1).numpy()
    np.testing.assert_allclose(explainer.explain(x, "gradient", 1).raw, want, atol=1e-5 * want.max())
    made = {name: create(name, {}) for name in method_names() if name != "class-map"}  # of detectors
    want_names = {n for n, one in made.items() if not one.needs_layer and set(one.roles) <= {"input-gradient"}}
    assert set(explainer.methods()) == want_names > {"rise", "lime", "gradient", "integrated-gradients"}


def test_a_method_that_reads_a_layer_is_refused(plain: tuple[nn.Module, Path]) -> None:
    explainer = Explainer(plain[1])
    with pytest.raises(
        NotApplicableError, match=r"^grad-cam: this bundle has no layer; its network is not cut: export it again"
    ):
        explainer.explain(images(1), "grad-cam")
    assert "at none of net" in repr(explainer.explain(images(1), "gradient"))


def test_regions_of_a_network_that_is_not_cut(tmp_path: Path) -> None:
    """The same map as of the network that is cut, which other tests compare with autograd."""
    source = saved(UNet("transposed"), tmp_path / "net.onnx")
    whole = export(Request(source, output_path=tmp_path / "whole.xai", preprocess="none", roles=("network",)))
    cut = export(Request(source, output_path=tmp_path / "cut.xai", preprocess="none"))
    assert list(whole.manifest.graphs) == ["network"]
    assert whole.manifest.network != cut.manifest.network
    for target in ("1@all", "2@3,4,10,9"):
        a, b = (Explainer(done.path).explain(images(2), "rise", target, masks=12).raw for done in (whole, cut))
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_why_a_map_is_constant(plain: tuple[nn.Module, Path]) -> None:
    """A score that saturates: what is said speaks of the image, because there is no layer."""
    for x, said in (
        (images(1) * 1e5, "saturated: the score depends on the image"),
        (np.full((1, 3, *SIZE), 1e4, np.float32), "dead: the image is the same everywhere"),
    ):
        [reason] = Explainer(plain[1]).explain(x, "gradient", 1).constant
        assert reason is not None
        assert reason.startswith(said)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"roles": ("network", "gradient")}, "the graph 'gradient' needs a layer, and the network is not cut"),
        ({"roles": ("network",), "split": "x"}, "--roles network leaves the network whole; leave --split x out"),
        ({"fuse": ("reciprocam",)}, "the graph 'fused-reciprocam' needs a layer, and the network is not cut"),
    ],
)
def test_graphs_that_need_a_layer_are_refused(
    plain: tuple[nn.Module, Path], tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    source = plain[1].with_suffix(".onnx")
    with pytest.raises(RequestError, match=message):
        export(Request(source, output_path=tmp_path / "net.xai", preprocess="none", **asked))
    assert not list(tmp_path.iterdir())


def test_the_command_lines(plain: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "net.xai"
    source = str(plain[1].with_suffix(".onnx"))
    assert main([source, "-o", str(bundle), "--preprocess", "none", "--roles", "network"]) == 0
    assert "none: the network stays whole" in capsys.readouterr().out
    PIL.Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "photo.png")
    arguments = [str(bundle), str(tmp_path / "photo.png"), "-m", "rise:masks=4", "-o", str(tmp_path / "out")]
    assert explain(arguments) == 0
    assert (tmp_path / "out" / "results.json").is_file()
    assert explain([*arguments[:2], "-o", str(tmp_path / "other")]) == 2
    assert "reciprocam: this bundle has no layer; its network is not cut: export it again" in capsys.readouterr().err


def test_the_check_takes_what_there_is(
    plain: tuple[nn.Module, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The methods that it takes by default read a layer."""
    bare, photo = tmp_path / "bare.xai", tmp_path / "photo.png"
    export(Request(plain[1].with_suffix(".onnx"), output_path=bare, preprocess="none"))
    PIL.Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(photo)
    assert check([str(plain[1]), str(plain[1]), str(photo)]) == 0
    assert "gradient" in capsys.readouterr().out
    assert check([str(plain[1]), str(bare), str(photo)]) == 2
    assert "both networks allow no quick method; name a slow one with -m" in capsys.readouterr().err


def test_cells_of_a_network_that_is_not_cut(plain: tuple[nn.Module, Path]) -> None:
    case = type("Case", (), {"explainer": Explainer(plain[1])})()
    with pytest.raises(OptionError, match="cells are the layer's positions, and this network is not cut"):
        areas_and_curves(case, Deletion(steps="cells").steps, "zeros", False)
