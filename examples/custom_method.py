"""A method of your own, in your own file: Eigen-CAM (Muhammad and Yeasin 2020, arXiv:2008.00299), which needs no gradient.

python examples/custom_method.py resnet50.xai photo.jpg eigen-cam.png
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xai_deploy import Explainer, read_image, write_image
from xai_deploy.methods.method import Array, Forward, Method, Seed, methods


@methods.register("eigen-cam")
@dataclass(frozen=True)
class EigenCam(Method):
    """The activation [h*w,K] projected on its first right singular vector: what varies most, whatever the class."""

    centred: bool = True  # an option: subtract each channel's mean first, as pytorch-grad-cam does
    roles: ClassVar[Mapping[str, str]] = {}  # no graph besides head and tail

    def maps(self, forward: Forward, seeds: Sequence[Seed]) -> Array:
        """Maps [T,n,h,w], the same for each of the T targets."""
        n, k, h, w = forward.activation.shape
        rows = forward.activation.reshape(n, k, h * w).transpose(0, 2, 1)
        rows = rows - rows.mean(axis=1, keepdims=True) if self.centred else rows
        first = np.linalg.svd(rows, full_matrices=False)[2][:, 0, :, None]  # [n,K,1]
        first = first * np.where(
            first.sum(axis=1, keepdims=True) < 0, -1, 1
        )  # its sign is free: towards more activation
        return np.repeat((rows @ first).reshape(1, n, h, w), len(seeds), axis=0)


if __name__ == "__main__":
    network, photo, out = sys.argv[1:]
    image = read_image(photo)
    write_image(out, Explainer(network).explain(image, "eigen-cam").overlay(image)[0])
