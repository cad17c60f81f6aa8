"""torchvision's networks, smaller: half a gigabyte of dense weights, or a hundred layers alike, say nothing about a cut."""

from __future__ import annotations

from torch import nn
from torchvision.models import VGG, DenseNet
from torchvision.models import vgg16_bn as full_vgg16_bn


def vgg16_bn() -> VGG:
    """1000 classes, 64 hidden units."""
    network: VGG = full_vgg16_bn(weights=None)
    network.classifier = nn.Sequential(
        nn.Linear(512 * 49, 64),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(64, 1000),
    )
    return network


def densenet121() -> DenseNet:
    """1000 classes, 16 dense layers."""
    return DenseNet(16, (3, 4, 5, 4), 32)
