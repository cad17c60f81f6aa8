"""A map that the network itself makes, as an attention branch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from xai_exporters import Request, export
from xai_exporters.errors import GraphError, LayerError, RequestError

from xai_deploy import Explainer
from xai_deploy.errors import NotApplicableError

from ...exporters.running import HEAD_AND_TAIL
from .nets import images, saved


class Attention(nn.Module):
    """Features are weighted by a map [N,1,h,w] of their own before they are pooled (ABN, equation 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 1, 1)
        self.last = nn.Linear(6, 4)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logits and the map."""
        features = torch.relu(self.first(x))
        weight = torch.sigmoid(self.attention(features))
        return self.last((features * (1 + weight)).mean((2, 3))), weight

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.both(x)[0]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_map_is_the_tensor(tmp_path: Path, backend: str) -> None:
    network = Attention()
    source = saved(network, tmp_path / "net.onnx")
    export(
        Request(
            source, output_path=tmp_path / "net.xai", preprocess="none", map="/Sigmoid_output_0", roles=HEAD_AND_TAIL
        )
    )
    explainer = Explainer(tmp_path / "net.xai", backend)
    for count in (1, 3):
        logits, weight = network.both(torch.from_numpy(images(count)))
        for target in (None, 2):
            got = explainer.explain(images(count), "own-map", target)
            np.testing.assert_allclose(got.raw, weight[:, 0].detach().numpy(), atol=1e-5)
            np.testing.assert_allclose(got.logits, logits.detach().numpy(), atol=1e-5)  # of the same run
    assert "own-map" in explainer.methods()
    assert "tail" not in explainer._sessions.opened or backend == "openvino"  # the map's graph gives the logits, too


class Both(Attention):
    """The map is an output beside the logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The logits and the map."""
        return self.both(x)


def test_beside_its_own_map_the_other_output_is_explained(tmp_path: Path) -> None:
    source = saved(Both(), tmp_path / "net.onnx")
    with pytest.raises(RequestError, match="several outputs; choose one with --output"):
        export(Request(source, output_path=tmp_path / "net.xai", preprocess="none"))
    [one_map] = [v.name for v in onnx.load(source).graph.output if len(v.type.tensor_type.shape.dim) == 4]
    done = export(
        Request(source, output_path=tmp_path / "net.xai", preprocess="none", map=one_map, roles=HEAD_AND_TAIL)
    )
    assert done.manifest.classes == 4
    assert "own-map" in done.manifest.graphs


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("image", LayerError, "--map: 'image' is the network's input"),
        ("/Relu_output_0", GraphError, r"--map /Relu_output_0: the tensor has shape \[N, 6, 12, 16\]; a map is floats"),
        ("nothing", LayerError, "--map: no layer 'nothing'|--map: .*nothing"),
    ],
)
def test_refusals(tmp_path: Path, name: str, error: type[Exception], message: str) -> None:
    source = saved(Attention(), tmp_path / "net.onnx")
    with pytest.raises(error, match=message):
        export(Request(source, output_path=tmp_path / "net.xai", preprocess="none", map=name))
    export(Request(source, output_path=tmp_path / "net.xai", preprocess="none", roles=HEAD_AND_TAIL))
    with pytest.raises(
        NotApplicableError, match=r"own-map: this bundle has no 'own-map' graph.*export it again with --map"
    ):
        Explainer(tmp_path / "net.xai").explain(images(1), "own-map")
