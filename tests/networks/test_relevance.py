"""Relevance-CAM of torchvision's networks at every stage, against the same propagated module by module in float64.

The networks are exported to ONNX with their BatchNorms; both forms, merged and kept, are made from that one file. They are
narrower here; XAI_FULL_SIZE=1 takes the full ones.
"""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from xai_exporters import Request, export

from xai_deploy import Contrast, Explainer

from ..support import smaller
from .relevance_oracle import CLASSES, STAGES, Explained, RelevanceOracle, build

FULL = os.environ.get("XAI_FULL_SIZE") == "1"
SIZE = 64
TARGETS = [7, -1]  # given, and predicted
CONTRAST = (7, 13)
TOLERANCE = 1e-4  # of the map's largest magnitude
OF_CONTRAST = 1e-3  # the difference of two classes is a hundredth of what float32 rounds, or less

# stage -> forms; the rest runs with XAI_FULL_SIZE=1. Behind the last stage there is no BatchNorm: both forms are one.
FORMS: dict[str, tuple[str, ...]] = {
    "resnet18:layer1": ("kept",),
    "resnet18:layer2": ("merged",),
    "resnet18:layer3": ("kept",),
    "resnet18:layer4": ("merged",),
    "resnet50:layer1": ("merged",),
    "resnet50:layer2": (),
    "resnet50:layer3": (),
    "resnet50:layer4": ("kept",),
    "vgg16_bn:features.6": ("kept",),
    "vgg16_bn:features.13": (),
    "vgg16_bn:features.23": ("kept",),
    "vgg16_bn:features.33": (),
    "vgg16_bn:features.43": ("merged",),
}
CASES = [(*case.split(":"), form) for case in FORMS for form in (("merged", "kept") if FULL else FORMS[case])]


class Network:
    """A live network, and its ONNX file with the BatchNorms in it: what both forms are made from."""

    def __init__(self, name: str, folder: Path) -> None:
        self.network, self.x = build(name, SIZE, narrow=not FULL)
        self.source = folder / f"{name}.onnx"
        self.images = self.x.numpy().astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                copy.deepcopy(self.network),
                (self.x.float(),),
                dynamo=True,
                optimize=False,  # leaves BatchNorms where they are
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=18,
                input_names=["image"],
                verbose=False,
            )
        assert program is not None
        program.save(self.source)
        self.stages = (*STAGES[name], "image")

    @cache  # noqa: B019 - lives as long as its tests
    def wanted(self, form: str) -> tuple[dict[str, Explained], dict[str, Explained]]:
        """Stage -> maps of `TARGETS`, and of `CONTRAST`."""
        oracle = RelevanceOracle(self.network, form == "merged")
        start = torch.zeros(2, CLASSES, dtype=torch.float64)
        start[:, CONTRAST[0]], start[:, CONTRAST[1]] = 1, -1
        return oracle.explain(self.x, self.stages, TARGETS), oracle.propagate(self.x, self.stages, start)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Network]:
    @cache
    def get(name: str) -> Network:
        return Network(name, tmp_path_factory.mktemp(name))

    return get


def close(got: Any, want: Any, tolerance: float = TOLERANCE) -> None:
    assert got.shape == want.shape
    for mine, theirs in zip(got, want, strict=True):
        assert np.abs(mine - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize(("name", "stage", "form"), CASES)
def test_every_stage(networks: Callable[[str], Network], tmp_path: Path, name: str, stage: str, form: str) -> None:
    network = networks(name)
    done = export(
        Request(
            network.source,
            stage,
            tmp_path / "net.xai",
            roles=("relevance",),
            preprocess="assume",
            keep_batchnorm=form == "kept",
        )
    )
    want, contrast = (explained[stage].maps for explained in network.wanted(form))
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend)
        maps = explainer.explain_many(network.images, ["relevance-cam"], [TARGETS, Contrast(*CONTRAST)])
        close(maps[0].raw, want)
        close(maps[1].raw, contrast, OF_CONTRAST)
    shutil.rmtree(done.path)


@pytest.mark.parametrize("form", ["merged", "kept"])
def test_down_to_the_image(networks: Callable[[str], Network], tmp_path: Path, form: str) -> None:
    """CLRP starts as Relevance-CAM does, and at the first convolution both mean z^B with the image's own bounds."""
    network = networks("resnet18")
    done = export(
        Request(
            network.source,
            "layer4",
            tmp_path / "net.xai",
            roles=("pixel-relevance",),
            preprocess="assume",
            keep_batchnorm=form == "kept",
        )
    )
    want = network.wanted(form)[0]["image"].maps
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend)
        close(explainer.explain(network.images, "clrp", TARGETS, others="1/n", relu=False).raw, want)


def test_the_authors_bias(networks: Callable[[str], Network], tmp_path: Path) -> None:
    """Their convolution adds its bias to both halves of Z; it is VGG's convolutions that have one beside their BatchNorm."""
    network = networks("vgg16_bn")
    composite = tmp_path / "authors.toml"
    composite.write_text('[ops]\nConv = { rule = "z-plus", bias = "authors" }\n')
    stage = "features.33"
    done = export(
        Request(
            network.source,
            stage,
            tmp_path / "net.xai",
            roles=("relevance-authors",),
            preprocess="assume",
            composite=(str(composite),),
            keep_batchnorm=True,
        )
    )
    want = RelevanceOracle(network.network, merged=False, bias="authors").explain(network.x, (stage,), TARGETS)[stage]
    plain = network.wanted("kept")[0][stage]
    assert np.abs(want.maps - plain.maps).max() > 1e-2 * np.abs(want.maps).max()
    for backend in ("onnxruntime", "openvino"):
        close(
            Explainer(done.path, backend).explain(network.images, "relevance-cam", TARGETS, composite="authors").raw,
            want.maps,
        )


@pytest.mark.parametrize("form", ["merged", "kept"])
def test_from_a_state_dict(networks: Callable[[str], Network], tmp_path: Path, form: str) -> None:
    """torch's exporter merges BatchNorms, or leaves them where it is asked to: the maps are those of either form."""
    network = networks("resnet18")
    torch.save(network.network.float().state_dict(), tmp_path / "net.pt")
    done = export(
        Request(
            tmp_path / "net.pt",
            "layer3",
            tmp_path / "net.xai",
            arch="resnet18" if FULL else f"{smaller.__file__}:narrow",
            arch_options={"num_classes": CLASSES} if FULL else {"name": "resnet18", "classes": CLASSES},
            input_shape=(3, SIZE, SIZE),
            roles=("relevance",),
            preprocess="assume",
            keep_batchnorm=form == "kept",
        )
    )
    close(
        Explainer(done.path).explain(network.images, "relevance-cam", TARGETS).raw,
        network.wanted(form)[0]["layer3"].maps,
    )
