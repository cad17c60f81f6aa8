"""torchvision's VGG-16 with BatchNorm, its dense layers narrow: half a gigabyte of weights says nothing about a cut."""

from __future__ import annotations

import torchvision
from torch import nn


def vgg16_bn() -> torchvision.models.VGG:
    """1000 classes, 64 hidden units."""
    network: torchvision.models.VGG = torchvision.models.vgg16_bn(weights=None)
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
