"""Zennit's composites, the reference that most people have, on torchvision's networks in float64: relevance at the image and at
a stage halfway."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from xai_exporters import Request, export

from xai_deploy import Explainer
from xai_deploy.format.bundle import ACTIVATION, LOGITS, RELEVANCE, SEED, TARGET

from ..support import smaller
from .oracle import calibrate, randomise

pytest.importorskip("zennit")

Array = NDArray[Any]

SIZE = 48
CLASSES = 20
TOLERANCE = 1e-4  # of the largest magnitude
LEAD = 2e-6  # of a window's largest value over the next, in parts of the largest of all
LOW, HIGH = (-2.0, -1.75, -1.5), (2.0, 2.25, 2.5)  # what the preprocessing makes of black and white
STAGES = {"resnet18": "layer2", "vgg16": "features.16"}
# of images; the dense layers of VGG have a sum near zero for seed 2, which float32 gives to 1e-3
SEEDS = {"resnet18": (2, 3), "vgg16": (3, 4)}
COMPOSITES = ("epsilon-plus", "epsilon-gamma-box", "epsilon-alpha2-beta1")


class Peer:
    """A network, its images, its bundle, and what Zennit says."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.stage = name, STAGES[name]
        torch.manual_seed(0)
        network: Any = smaller.narrow(name, CLASSES)
        self.network = randomise(network)
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eps = 0.0  # Zennit merges it, and leaves it in the BatchNorm, too: another network, by 5e-5
                elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)) and module.bias is not None:
                    module.bias.uniform_(-0.1, 0.1)
        self.x = torch.cat([_decided(network, seed) for seed in SEEDS[name]])
        calibrate(network, self.x.float())
        with torch.no_grad():
            self.targets = [7, int(network(self.x.float())[1].argmax())]
        self.bundle = self._export(folder)

    def _export(self, folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                copy.deepcopy(self.network),
                (self.x.float(),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=18,
                input_names=["image"],
                verbose=False,
            )
        assert program is not None
        program.save(folder / "net.onnx")
        return export(
            Request(
                folder / "net.onnx",
                self.stage,
                folder / "net.xai",
                preprocess_fields={
                    "scale": 1 / 255,
                    "mean": tuple(-low / (high - low) for low, high in zip(LOW, HIGH, strict=True)),
                    "std": tuple(1 / (high - low) for low, high in zip(LOW, HIGH, strict=True)),
                },
                roles=tuple(f"{at}-{name}" for name in COMPOSITES for at in ("relevance", "pixel-relevance")),
                composite=COMPOSITES,
                whole_graphs=True,  # they run without the engine
            )
        ).path

    @cache  # noqa: B019 - lives as long as its tests
    def zennit(self, name: str) -> tuple[Array, Array, Array]:
        """Logits, and relevance of the image and of the stage from a start of 1 at the target."""
        from zennit import composites
        from zennit import torchvision as canonizers

        vgg = isinstance(self.network, torchvision.models.VGG)
        canonizer = canonizers.VGGCanonizer() if vgg else canonizers.ResNetCanonizer()
        network = copy.deepcopy(self.network).double()
        if name == "epsilon-gamma-box":
            low, high = (torch.tensor(bound, dtype=torch.float64)[None, :, None, None] for bound in (LOW, HIGH))
            composite = composites.EpsilonGammaBox(low, high, canonizers=[canonizer])
        else:
            composite = composites.COMPOSITES[name.replace("-", "_")](canonizers=[canonizer])
        seen: list[torch.Tensor] = []

        def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            output.retain_grad()
            seen.append(output)
            return output.clone()  # what comes next may write into it

        with composite.context(network) as changed:
            handle = changed.get_submodule(self.stage).register_forward_hook(keep)
            x = self.x.clone().requires_grad_()
            y = changed(x)
            y.backward(torch.nn.functional.one_hot(torch.tensor(self.targets), CLASSES).double())
            handle.remove()
        [stage] = seen
        assert x.grad is not None
        assert stage.grad is not None
        return y.detach().numpy(), x.grad.numpy(), stage.grad.numpy()


@torch.no_grad()
def _decided(network: torch.nn.Module, seed: int) -> torch.Tensor:
    """An image [1,3,H,W] whose maxima float32's rounding leaves where they are: relevance goes to them whole."""
    generator = torch.Generator().manual_seed(seed)
    leads: list[float] = []

    def measure(pool: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        [x] = inputs
        windows = torch.nn.functional.unfold(x.transpose(0, 1), pool.kernel_size, 1, pool.padding, pool.stride)
        first, second = windows.topk(2, dim=1).values.unbind(1)
        leads.append(float(((first - second)[first > 0] / x.max()).min()))  # where all are 0, no relevance arrives

    handles = [m.register_forward_pre_hook(measure) for m in network.modules() if isinstance(m, torch.nn.MaxPool2d)]
    while not leads or min(leads) < LEAD:
        leads.clear()
        x = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64, generator=generator) * 4 - 1.5
        network(x.float())
    for handle in handles:
        handle.remove()
    return x


@pytest.fixture(scope="module", params=STAGES)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Peer:
    return Peer(request.param, tmp_path_factory.mktemp(request.param))


def run(path: Path, backend: str, feeds: dict[str, Array]) -> dict[str, Array]:
    """All outputs of a graph."""
    if backend == "onnxruntime":
        session = onnxruntime.InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = model(feeds)
    return {output.any_name: results[output].copy() for output in model.outputs}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevance_is_zennits(peer: Peer, composite: str, backend: str) -> None:
    logits, pixels, stage = peer.zennit(composite)
    image = peer.x.numpy().astype(np.float32)
    start = {TARGET: np.array([peer.targets[0], -1]), SEED: np.zeros((2, CLASSES), np.float32)}

    got = run(peer.bundle / f"pixel-relevance-{composite}.onnx", backend, {"image": image, **start})
    close(got[LOGITS], logits)
    close(got[RELEVANCE], pixels)

    activation = run(peer.bundle / "head.onnx", backend, {"image": image})
    got = run(peer.bundle / f"relevance-{composite}.onnx", backend, {ACTIVATION: activation[ACTIVATION], **start})
    close(got[RELEVANCE], stage)

    explained = Explainer(peer.bundle, backend).explain(image, "lrp", [peer.targets[0], -1], composite=composite)
    of_target = logits[range(2), peer.targets]
    close(explained.raw, pixels.sum(1) * of_target[:, None, None])


def close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    for mine, theirs in zip(got, want, strict=True):
        assert np.abs(mine - theirs).max() <= TOLERANCE * np.abs(theirs).max()
