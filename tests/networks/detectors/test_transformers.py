"""DETR, Deformable DETR, RT-DETR and YOLOS of transformers, with random weights: maps of a query against autograd in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers as hf
from torch import nn
from xai_exporters import Request, export

from xai_deploy import Explainer

from ...exporters.running import both_ways
from . import nets
from .conftest import ALL

BACKBONE: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage3", "stage4"],
}
SIZES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_labels": nets.CLASSES,
}
BARE: dict[str, Any] = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "dropout": 0.0}


def detr() -> nn.Module:
    """One level of the backbone; a softmax with "no object"."""
    backbone = hf.ResNetConfig(**{**BACKBONE, "out_features": ["stage4"]})
    network: nn.Module = hf.DetrForObjectDetection(
        hf.DetrConfig(backbone_config=backbone, num_queries=6, **SIZES, **BARE)
    )
    return network


def deformable() -> nn.Module:
    """Two levels read by GridSample; the first layer of the decoder reads at constant places."""
    config = hf.DeformableDetrConfig(
        backbone_config=hf.ResNetConfig(**BACKBONE),
        num_queries=6,
        num_feature_levels=2,
        encoder_n_points=2,
        decoder_n_points=2,
        with_box_refine=True,
        **SIZES,
        **BARE,
    )
    network: nn.Module = hf.DeformableDetrForObjectDetection(config)
    return network


def rt_detr() -> nn.Module:
    """Three levels; TopK chooses the queries among their cells."""
    own = {name: value for name, value in SIZES.items() if name != "encoder_layers"}
    config = hf.RTDetrConfig(
        backbone_config=hf.RTDetrResNetConfig(**BACKBONE | {"out_features": ["stage2", "stage3", "stage4"]}),
        encoder_hidden_dim=32,
        encoder_in_channels=[12, 16, 20],
        decoder_in_channels=[32, 32, 32],
        feat_strides=[8, 16, 32],
        num_queries=8,
        decoder_n_points=2,
        num_denoising=0,
        hidden_expansion=0.5,
        **own,
    )
    network: nn.Module = hf.RTDetrForObjectDetection(config)
    return network


def yolos() -> nn.Module:
    """A ViT with a class token before its patches and one token for each detection after them, which alone are read."""
    config = hf.YolosConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=list(nets.SIZE),
        patch_size=16,
        num_detection_tokens=6,
        num_labels=nets.CLASSES,
    )
    network: nn.Module = hf.YolosForObjectDetection(config)
    return network


NETS: dict[str, tuple[Callable[[], nn.Module], str, tuple[str, ...]]] = {
    "detr": (detr, "detr", ("model.encoder.layers.0.final_layer_norm",)),
    "deformable": (deformable, "detr-sigmoid", tuple(f"model.backbone.model.encoder.stages.{k}" for k in (2, 3))),
    "rt-detr": (
        rt_detr,
        "detr-sigmoid",
        tuple(f"model.encoder.{name}" for name in ("fpn_blocks.1", "pan_blocks.0", "pan_blocks.1")),
    ),
    "yolos": (yolos, "detr", ("vit.encoder.layer.2.layernorm_before",)),
}
"""How it is built, its layout, and the modules that give the maps that `auto` cuts at."""


class Wrapped(nn.Module):
    """Logits and boxes.

    A batch norm is written as the product and sum that it is in use: PyTorch 2.13's own gradient of it is wrong before
    `flatten(2).transpose(1, 2)`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        """[N,Q,C], [N,Q,4]."""
        seen = self.network(pixel_values=x)
        return seen.logits, seen.pred_boxes


class Affine(nn.Module):
    """See `Wrapped`."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, norm: Any) -> None:
        super().__init__()
        scale = norm.weight / (norm.running_var + getattr(norm, "eps", 1e-5)).sqrt()
        self.register_buffer("scale", scale.detach()[:, None, None])
        self.register_buffer("shift", (norm.bias - norm.running_mean * scale).detach()[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x * scale + shift."""
        result: torch.Tensor = x * self.scale + self.shift
        return result


def _without_norms(module: nn.Module, random: torch.Generator) -> None:
    child: Any
    for name, child in module.named_children():
        if "BatchNorm" in type(child).__name__:
            child.running_mean.copy_(torch.randn(child.running_mean.shape, generator=random) * 0.1)
            setattr(module, name, Affine(child))
        else:
            _without_norms(child, random)


def built(name: str) -> Wrapped:
    """A detector of random weights."""
    torch.manual_seed(4)
    network = Wrapped(NETS[name][0]()).eval()
    with torch.no_grad():
        for part, parameter in network.named_parameters():
            # Scores of candidates lie apart, or float32 and float64 choose other ones.
            parameter.add_((3 if "enc_score_head" in part else 0.1) * torch.randn_like(parameter))
        _without_norms(network, torch.Generator().manual_seed(1))
    return network


@pytest.mark.parametrize("name", NETS)
def test_maps_of_a_query(name: str, tmp_path: Path) -> None:
    network, (_, decoder, modules) = built(name), NETS[name]
    x = torch.rand(3, 3, *nets.SIZE, generator=torch.Generator().manual_seed(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx.save(both_ways(network, False, (3, *nets.SIZE)), tmp_path / "net.onnx")
    request = Request(
        tmp_path / "net.onnx",
        output_path=tmp_path / "net.xai",
        preprocess="none",
        roles=("gradient",),
        decoder=decoder,
    )
    done = export(request)
    assert done.manifest.batch == "any"
    network.double()
    for backend in ("onnxruntime", "openvino"):
        explainer = Explainer(done.path, backend, detections=ALL)
        for images in (1, 3):
            got = [explainer.explain(x[:images].numpy(), "hires-cam", target) for target in ("box 0", "not box 0")]
            layers = zip(
                *(one.layers or [one] for one in got),
                _terms(network, modules, x[:images].double(), got[0], done.manifest.target),
                strict=True,
            )
            for positive, negative, terms in layers:
                size = max(float(np.abs(terms).max()), 1e-6)
                np.testing.assert_allclose(positive.raw, np.maximum(terms.sum(1), 0), atol=1e-4 * size)
                np.testing.assert_allclose(negative.raw, np.maximum(-terms.sum(1), 0), atol=1e-4 * size)
                assert terms.any()


def _terms(network: Wrapped, modules: tuple[str, ...], x: torch.Tensor, got: Any, layer: Any) -> Iterator[Any]:
    """g * A at each layer, [n,K,h,w], for the logit of the best query of each image, found by its box: rounding orders queries."""
    kept: list[torch.Tensor] = []
    hooks = [
        network.network.get_submodule(name).register_forward_hook(lambda _m, _i, out: kept.append(out))
        for name in modules
    ]
    with pytest.MonkeyPatch.context() as patched:
        # transformers cuts gradients off between its layers in use, too; what is deployed is one function
        patched.setattr(torch.Tensor, "detach", lambda self: self)
        logits, boxes = network(x.requires_grad_())  # its backbone is frozen
    for hook in hooks:
        hook.remove()
    scores = []
    for image, found in enumerate(got.detections):
        left, top, right, bottom = found[0].box
        height, width = nets.SIZE
        box = torch.tensor(
            [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
        )
        apart = (boxes[image] - box).abs().amax(1)
        assert apart.min() < 1e-4
        scores.append(logits[image, apart.argmin(), found[0].index])
    np.testing.assert_allclose(got.score, torch.stack(scores).detach(), rtol=1e-4, atol=1e-5)
    for a, g in zip(kept, torch.autograd.grad(torch.stack(scores).sum(), kept), strict=True):
        terms = (a * g).detach().numpy()
        if terms.ndim == 3:  # tokens, of which some may be no patches
            cells = slice(layer.prefix_tokens, terms.shape[1] - layer.suffix_tokens)
            terms = terms[:, cells].transpose(0, 2, 1).reshape(len(x), *layer.shape)
        yield terms
