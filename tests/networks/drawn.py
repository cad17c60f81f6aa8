"""torchvision's networks with weights and statistics drawn at random, such that float32 can be compared with float64."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.shufflenetv2 import ShuffleNetV2
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from ..support import smaller

# family -> last stage, early stage
LAYERS = {
    "alexnet": ("features", "features.2"),
    "convnext": ("features", "features.1"),
    "densenet": ("features", "features.denseblock1"),
    "efficientnet": ("features", "features.2"),
    "googlenet": ("inception5b", "inception3a"),
    "inception": ("Mixed_7c", "Mixed_5b"),
    "maxvit": ("blocks.3", "blocks.0"),
    "mnasnet": ("layers", "layers.8"),
    "mobilenet": ("features", "features.3"),
    "regnet": ("trunk_output", "trunk_output.block1"),
    "resnet": ("layer4", "layer1"),
    "resnext": ("layer4", "layer1"),
    "wide": ("layer4", "layer1"),
    "shufflenet": ("conv5", "stage2"),
    "squeezenet": ("features", "features.4"),
    "swin": ("features", "features.1"),
    "vgg": ("features", "features.6"),
    "vit": ("encoder.layers.encoder_layer_{last}.ln_1", "encoder.layers.encoder_layer_1.ln_1"),
}


# Small networks of torchvision's own classes, for the quick tests: ViT-B fills 10 GB on this way
TINY: dict[str, Callable[[], torch.nn.Module]] = {
    "convnext_tiniest": lambda: ConvNeXt([CNBlockConfig(24, 48, 1), CNBlockConfig(48, None, 2)], num_classes=20),
    "densenet_tiny": lambda: DenseNet(8, (2, 2, 2), 16, num_classes=20),
    "efficientnet_tiny": lambda: EfficientNet(
        [MBConvConfig(1, 3, 1, 16, 8, 1), MBConvConfig(6, 3, 2, 8, 16, 2), MBConvConfig(6, 5, 2, 16, 24, 2)],
        0.0,
        num_classes=20,
    ),
    "mobilenet_v3_tiny": lambda: MobileNetV3(
        [
            InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1),
            InvertedResidualConfig(16, 3, 40, 24, False, "RE", 2, 1, 1),
            InvertedResidualConfig(24, 3, 56, 24, False, "RE", 1, 1, 1),
            InvertedResidualConfig(24, 5, 64, 40, True, "HS", 2, 1, 1),
            InvertedResidualConfig(40, 5, 96, 40, True, "HS", 1, 1, 1),
        ],
        64,
        num_classes=20,
    ),
    "resnet18_narrow": lambda: smaller.narrow("resnet18", 20),
    "shufflenet_tiny": lambda: ShuffleNetV2([2, 2, 2], [24, 48, 96, 192, 256], num_classes=20),
    "swin_tiny": lambda: SwinTransformer([4, 4], 24, [2, 2], [1, 2], [7, 7], num_classes=20),
    "vit_tiny": lambda: VisionTransformer(64, 16, 3, 2, 32, 64, num_classes=20),
}


SIZES = {"vit": 224, "maxvit": 224, "inception": 96}  # others 64


def layers_of(name: str, network: torch.nn.Module) -> tuple[str, str]:
    """The last and the early stage of a network, as module paths."""
    last, early = LAYERS[re.split(r"[_\d]", name)[0]]
    if "{last}" in last:
        last = last.format(last=len(network.get_submodule("encoder.layers")) - 1)  # type: ignore[arg-type]
    return last, early


def size_of(name: str) -> int:
    """Side of the square images in pixels."""
    return SIZES.get(re.split(r"[_\d]", name)[0], 64)


def build(name: str) -> torch.nn.Module:
    """A seeded network whose every parameter differs from zero and one."""
    torch.manual_seed(0)
    if name in TINY:
        return _drawn(TINY[name]().eval())
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: torch.nn.Module = torchvision.models.get_model(name, weights=None, **options).eval()
    return _drawn(network)


def _drawn(network: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter that is constant, and every statistic, values of its own."""
    generator = torch.Generator().manual_seed(1)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for parameter in network.parameters():
            if (
                parameter.numel() > 1 and parameter.min() == parameter.max()
            ):  # scales 1, biases 0, layer scales 1e-6, heads 0
                if parameter.ndim == 2:
                    parameter.copy_(uniform(parameter, -1, 1) / parameter.shape[1] ** 0.5)
                elif parameter.max() == 0:
                    parameter.copy_(uniform(parameter, -0.3, 0.3))
                else:
                    parameter.copy_(uniform(parameter, 0.5, 1.5))
                    parameter.view(-1)[::5] *= -1
        for name_, buffer in network.named_buffers():
            if name_.endswith("running_mean"):
                buffer.copy_(uniform(buffer, -0.3, 0.3))
            elif name_.endswith("running_var"):
                buffer.copy_(uniform(buffer, 0.5, 1.5))
    return network.requires_grad_(False)


def images(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def calibrate(network: torch.nn.Module, x: torch.Tensor, damping: float) -> None:
    """Run the BatchNorms' inputs once and take their statistics, rounded, so that no signal dies or explodes in depth.

    Damping makes blocks weaker than the ways around them: the deepest networks of random weights are chaotic without it, and
    multiply rounding by 1e13.
    """
    handles = []

    def adapt(module: Any, inputs: Any) -> None:
        [value] = inputs
        axes = [i for i in range(value.ndim) if i != 1]
        module.running_mean.copy_(value.mean(axes).mul(256).round() / 256)
        module.running_var.copy_(4 ** (value.var(axes) + 1e-3).log2().div(2).round())
        module.weight.copy_(damping * module.weight.sign() * 2 ** module.weight.abs().log2().round())
        module.bias.copy_(module.bias.mul(256).round() / 256)
        module.eps = 0.0

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(adapt))
    network(x)
    for handle in handles:
        handle.remove()
