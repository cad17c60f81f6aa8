"""Tokens in another order than the image's, in patches and windows of their own, and in branches whose logits are stacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from xai_exporters import Request, export
from xai_exporters.cut.auto import auto_layer
from xai_exporters.cut.featuremap import find_grid
from xai_exporters.cut.scores.logits import find_scores

from xai_deploy import Explainer

from .. import cut_nets as c
from ..checks import check_bundle, forward
from .test_featuremap import exported, values


def bundle(folder: Path, network: torch.nn.Module, split: str) -> Path:
    torch.save(network, folder / "net.pt")
    request = Request(folder / "net.pt", output_path=folder / "net.xai", trust_code=True, input_shape=c.SHAPE, split=split,
                      preprocess="assume")  # fmt: skip
    return export(request).path


@pytest.fixture(scope="module")
def unrolled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    torch.manual_seed(3)
    network = c.Unrolled().eval()
    return network, bundle(tmp_path_factory.mktemp("unrolled"), network, "block1.norm1")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_maps_of_reordered_tokens_lie_as_the_image_does(unrolled: tuple[Any, Path], backend: str) -> None:
    """Against torch's gradient, with the tokens put into the image's order by the inverse of the network's own reordering."""
    network, path = unrolled
    x = torch.randn(3, *c.SHAPE, generator=torch.Generator().manual_seed(0))
    kept: list[torch.Tensor] = []
    hook = network.block1.norm1.register_forward_hook(lambda module, given, out: kept.append(out))
    y = network(x)
    hook.remove()
    [gradient] = torch.autograd.grad(y[:, 2].sum(), kept)

    def in_order(tokens: torch.Tensor) -> Any:  # [N,(2 2)(2 3),C], the place within a window first -> [N,C,4,6]
        return tokens.detach().reshape(3, 2, 2, 2, 3, 8).permute(0, 5, 3, 1, 4, 2).reshape(3, 8, 4, 6).numpy()

    a, g = in_order(kept[0]), in_order(gradient)
    wanted = np.maximum((a * g).sum(axis=1), 0)
    assert wanted.any()
    e = Explainer(path, backend).explain(x.numpy(), "hires-cam", 2)
    assert np.abs(e.raw - wanted).max() <= 1e-4 * wanted.max()
    assert np.abs(e.logits - y.detach().numpy()).max() <= 1e-4 * float(y.detach().abs().max())


def test_head_and_tail_of_reordered_tokens(unrolled: tuple[Any, Path]) -> None:
    network, path = unrolled
    check_bundle(path, forward(network))
    target = Explainer(path, "onnxruntime").bundle.manifest.target
    assert (target.layout, target.shape, target.prefix_tokens) == ("NTC", (8, 4, 6), 0)


def test_auto_prefers_tokens_in_order() -> None:
    graph = exported("unrolled")
    value, _ = auto_layer(graph, find_scores(graph, None))
    assert find_grid(graph, value, "auto").order is None
    reordered = [find_grid(graph, v, "x") for v in values(graph) if graph.shapes.per_image(v.name) == (24, 8)]
    assert reordered[-1].order is not None
    # token 0 is the upper left cell of window 0, token 1 that of window 1, two columns on
    assert reordered[-1].order[:4] == (0, 12 // 2, 1, 12 // 2 + 1)


@pytest.mark.parametrize(("kind", "shape"), [("inner patches", (8, 2, 3)), ("shared query", (8, 4, 6))])
def test_grids(kind: str, shape: tuple[int, ...]) -> None:
    graph = exported(kind)
    value, _ = auto_layer(graph, find_scores(graph, None))
    grid = find_grid(graph, value, "auto")
    assert (grid.shape, grid.order) == (shape, None)
    [strand] = graph.positions[value].strands
    rows, columns = strand.frames
    assert (rows.origin, rows.size) == (0, 16)
    assert rows.edges(0, shape[1] - 1) == (0, 16)
    assert columns.edges(0, shape[2] - 1) == (0, 24)


def test_a_branch_beside_the_cut_is_stacked_again(tmp_path: Path) -> None:
    """The other branch's logits pass as [N,5]; the tail stacks them itself."""
    torch.manual_seed(0)
    network = c.Branches().eval()
    path = bundle(tmp_path, network, "blocks.0.norm1")
    check_bundle(path, forward(network))
    assert (5,) in [side.shape for side in Explainer(path, "onnxruntime").bundle.manifest.side]
