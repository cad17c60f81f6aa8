"""A vision transformer as `ov.convert_model` converts it from torch, against torch's autograd."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torchvision.models.vision_transformer import VisionTransformer
from xai_exporters import Export

from xai_deploy.foundation import runtimes

from .running import ov
from .test_openvino_file import exported

TARGETS = np.array([3, 0, 2])


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    built: torch.nn.Module = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5).eval()
    with torch.no_grad():
        for parameter in built.parameters():  # torchvision begins with heads and tokens of zeros
            parameter.add_(0.1 * torch.randn_like(parameter))
    built.requires_grad_(False)
    return built


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("vit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ov.convert_model(network(), example_input=torch.zeros(2, 3, 32, 32), input=[-1, 3, 32, 32])
    ov.save_model(model, folder / "vit.xml", compress_to_fp16=False)
    return exported(folder / "vit.xml", roles=("gradient",), input_gradient=True)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_gradient_at_the_image(done: Export, backend: str) -> None:
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    image = x.double().requires_grad_()
    scores = network().double()(image)
    [want] = torch.autograd.grad(scores[range(3), TARGETS].sum(), image)
    feeds = {"target": TARGETS, "seed": np.zeros((3, 5), np.float32), done.manifest.input.name: x.numpy()}
    file = str(done.path / "input-gradient.onnx")
    if backend == "onnxruntime":
        got = (
            runtimes.onnxruntime()
            .InferenceSession(file, providers=["CPUExecutionProvider"])
            .run(["gradient"], feeds)[0]
        )
    else:
        got = ov.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feeds)["gradient"]
    assert np.abs(got - want.numpy()).max() <= 1e-4 * np.abs(want.numpy()).max()


def test_the_layer_is_a_grid_of_tokens(done: Export) -> None:
    target = done.manifest.target
    assert (target.layout, target.shape, target.prefix_tokens) == ("NTC", (16, 4, 4), 1)


def test_the_layer_is_what_torchs_module_gives(done: Export) -> None:
    """With its gains and shifts, which stand behind OpenVINO's MVN: the last normalisation before an attention."""
    kept: list[torch.Tensor] = []
    net = network()
    last = net.encoder.layers[-1].ln_1  # type: ignore[union-attr, index]
    last.register_forward_hook(lambda module, given, result: kept.append(result))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net(x)
    session = runtimes.onnxruntime().InferenceSession(str(done.path / "head.onnx"), providers=["CPUExecutionProvider"])
    [activation] = session.run(["activation"], {session.get_inputs()[0].name: x.numpy()})
    want = kept[0][:, 1:].transpose(1, 2).reshape(2, 16, 4, 4).numpy()
    np.testing.assert_allclose(activation, want, rtol=0, atol=1e-5 * np.abs(want).max())
