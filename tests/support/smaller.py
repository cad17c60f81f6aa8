"""torchvision's networks, smaller: half a gigabyte of dense weights, or a hundred layers alike, say nothing about a cut."""

from __future__ import annotations

from torch import nn
from torchvision.models import VGG, DenseNet, ResNet
from torchvision.models import mobilenet_v2 as full_mobilenet_v2
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.vgg import make_layers


def vgg16_bn() -> nn.Module:
    """1000 classes."""
    return narrow("vgg16_bn", 1000)


def resnet18() -> nn.Module:
    """1000 classes."""
    return narrow("resnet18", 1000)


def resnet50() -> nn.Module:
    """1000 classes, eight Bottlenecks."""
    return narrow("resnet50", 1000)


def mobilenet_v2() -> nn.Module:
    """1000 classes, channels of half the number."""
    network: nn.Module = full_mobilenet_v2(weights=None, width_mult=0.5)
    return network


def densenet121() -> DenseNet:
    """1000 classes, 16 dense layers."""
    return DenseNet(16, (3, 4, 5, 4), 32)


def narrow(name: str, classes: int) -> nn.Module:
    """torchvision's ResNet-18, its ResNet-50 with two Bottlenecks a stage, or its VGG-16, a quarter as wide.

    VGG-16 with BatchNorms is half as wide: float32 would decide its relevance. The modules have the names of the full ones.
    """
    network: nn.Module
    if name.startswith("vgg16"):
        least = 32 if name == "vgg16_bn" else 16
        channels: list[int | str] = []
        for by, count in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
            channels += [*[least * by] * count, "M"]
        network = VGG(make_layers(channels, batch_norm=name == "vgg16_bn"), num_classes=classes)
        network.classifier = nn.Sequential(
            nn.Linear(least * 8 * 49, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, classes)
        )
    elif name == "resnet50":
        network = ResNet(Bottleneck, [2, 2, 2, 2], num_classes=classes, width_per_group=16)
    else:
        network = thin(ResNet(BasicBlock, [2, 2, 2, 2], num_classes=classes), 4)
    return network


def thin(network: nn.Module, by: int) -> nn.Module:
    """A network of convolutions, BatchNorms and linear layers with a part of its channels; images and classes stay as they are."""
    for module in list(network.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.Conv2d):
                inputs, outputs = max(3, layer.in_channels // by), layer.out_channels // by
                kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
                bias = layer.bias is not None
                setattr(module, name, nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias))  # type: ignore[arg-type]
            elif isinstance(layer, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(layer.num_features // by))
            elif isinstance(layer, nn.Linear):
                setattr(module, name, nn.Linear(layer.in_features // by, layer.out_features))
    return network
