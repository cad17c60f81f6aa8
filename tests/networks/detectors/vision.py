"""torchvision's detectors with small bodies, up to the suppression: random weights, batch norms with random statistics."""

from __future__ import annotations

import contextlib
import io
import math
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import onnx
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection import anchor_utils, faster_rcnn, fcos, retinanet, rpn, ssd, ssdlite
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.resnet import BasicBlock
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from . import nets

PLAIN: dict[str, Any] = {
    "min_size": nets.SIZE[0],
    "max_size": nets.SIZE[1],
    "image_mean": [0.0] * 3,
    "image_std": [1.0] * 3,
    "size_divisible": 1,
}
"""torchvision's own preprocessing leaves the images as they are."""

CLIP = math.log(1000 / 16)
"""torchvision's bound of the logarithm of a side."""


def pyramid(channels: int, extra: Any, levels: int) -> BackboneWithFPN:
    """A body of residual blocks, maps of the strides 4, 8 and 16, and a feature pyramid of the last ones."""
    body = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            layer1=block(8, 8),
            layer2=block(8, 12),
            layer3=block(12, 16),
        )
    )
    taken, sizes = ("layer1", "layer2", "layer3")[-levels:], [8, 12, 16][-levels:]
    return BackboneWithFPN(body, {name: str(i) for i, name in enumerate(taken)}, sizes, channels, extra)


def block(k: int, c: int) -> BasicBlock:
    """Half the size."""
    return BasicBlock(k, c, 2, nn.Sequential(nn.Conv2d(k, c, 1, 2, bias=False), nn.BatchNorm2d(c)))


def ssdlite_net() -> Any:
    """SSDLite over a MobileNetV3 of four blocks; class 0 is the background."""
    make = partial(InvertedResidualConfig, dilation=1, width_mult=1.0)
    settings = [
        make(8, 3, 16, 8, False, "RE", stride=2),
        make(8, 5, 24, 12, True, "HS", stride=2),
        make(12, 5, 24, 12, True, "HS", stride=2),
    ]
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    features = MobileNetV3(settings, last_channel=16, norm_layer=norm).features
    backbone = ssdlite.SSDLiteFeatureExtractorMobileNet(features, 3, norm, 0.05)
    backbone.extra = backbone.extra[:1]
    anchors = anchor_utils.DefaultBoxGenerator([[2, 3]] * 3, min_ratio=0.2, max_ratio=0.95)
    sizes = [level.shape[1] for level in backbone(torch.rand(1, 3, *nets.SIZE)).values()]
    head = ssdlite.SSDLiteHead(sizes, anchors.num_anchors_per_location(), nets.CLASSES + 1, norm)
    options = {name: value for name, value in PLAIN.items() if name.startswith("image")}
    return ssd.SSD(backbone, anchors, nets.SIZE[::-1], nets.CLASSES + 1, head=head, score_thresh=0.0, **options)


def retinanet_net() -> Any:
    """RetinaNet: four levels, two of them from a strided convolution."""
    anchors = anchor_utils.AnchorGenerator(tuple((s, s * 1.5) for s in (16, 24, 32, 48)), ((0.5, 1.0),) * 4)
    backbone = pyramid(16, LastLevelP6P7(16, 16), 2)
    head = retinanet.RetinaNetHead(16, anchors.num_anchors_per_location()[0], nets.CLASSES)
    return detection.RetinaNet(backbone, nets.CLASSES, anchor_generator=anchors, head=head, score_thresh=0.0, **PLAIN)


def fcos_net() -> Any:
    """FCOS: no anchors, a centre-ness beside the classes."""
    anchors = anchor_utils.AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    head = fcos.FCOSHead(32, 1, nets.CLASSES, num_convs=1)
    backbone = pyramid(32, LastLevelMaxPool(), 2)
    return detection.FCOS(backbone, nets.CLASSES, anchor_generator=anchors, head=head, score_thresh=0.0, **PLAIN)


def faster_rcnn_net() -> Any:
    """Faster R-CNN over two levels; the proposals see a further one."""
    anchors = anchor_utils.AnchorGenerator(((16,), (32,), (64,)), ((0.5, 1.0),) * 3)
    pool = torchvision.ops.MultiScaleRoIAlign(["0", "1"], 3, 2, canonical_scale=32)  # small ones from the fine level
    return detection.FasterRCNN(
        pyramid(16, LastLevelMaxPool(), 2),
        rpn_anchor_generator=anchors,
        rpn_head=rpn.RPNHead(16, 2),
        box_roi_pool=pool,
        box_head=faster_rcnn.TwoMLPHead(16 * 9, 24),
        box_predictor=faster_rcnn.FastRCNNPredictor(24, nets.CLASSES + 1),
        box_score_thresh=0.0,
        **PLAIN,
    )


class Raw(nn.Module):
    """A detector without its suppression; forward gives probabilities [N,R,C] and corners [N,R,4] in pixels.

    Args:
        net: torchvision's detector.
    """

    batch: int | None = None
    taps: tuple[str, ...] = ("net.backbone",)
    """The modules that give the maps that `auto` cuts at."""

    sides: Tensor
    centres: Tensor

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net: Any = net
        anchors = self.anchors_of(torch.zeros(1, 3, *nets.SIZE))
        self.register_buffer("sides", anchors[:, 2:] - anchors[:, :2])
        self.register_buffer("centres", (anchors[:, :2] + anchors[:, 2:]) / 2)

    def anchors_of(self, x: Tensor) -> Tensor:
        """[R,4]."""
        maps = list(self.net.backbone.eval()(x).values())
        anchors: Tensor = self.net.anchor_generator(ImageList(x, [nets.SIZE]), maps)[0]
        return anchors

    def decoded(self, r: Tensor, weights: Any = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
        """Corners from offsets [N,R,4] (Girshick et al. 2014, arXiv:1311.2524, appendix C)."""
        r = r / torch.tensor(weights, dtype=r.dtype)
        centre, half = self.centres + r[..., :2] * self.sides, r[..., 2:].clamp(max=CLIP).exp() * self.sides / 2
        return torch.cat([centre - half, centre + half], -1)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is explained [N,R,C], and corners [N,R,4]."""
        seen = self.net.head(list(self.net.backbone(x).values()))
        return seen["cls_logits"], self.decoded(seen["bbox_regression"], self.net.box_coder.weights)

    def shares(self, scores: Tensor) -> Tensor:
        """Probabilities."""
        return scores.sigmoid()

    def forward(self, x: Tensor) -> Any:
        """The outputs."""
        scores, boxes = self.raw(x)
        return self.shares(scores), boxes

    def found(self, x: Tensor) -> list[tuple[float, int, Tensor]]:
        """Of each image torchvision's own best detection: probability, class and corners."""
        results = self.net(list(x))
        return [(float(one["scores"][0]), int(one["labels"][0]), one["boxes"][0]) for one in results]


class Softmax(Raw):
    """With a background."""

    def shares(self, scores: Tensor) -> Tensor:
        """See `Raw`."""
        return scores.softmax(-1)


class Fcos(Raw):
    """FCOS: distances to the sides, and the root of class times centre-ness, which is explained itself: it has no single logit."""

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Raw`."""
        seen = self.net.head(list(self.net.backbone(x).values()))
        far = seen["bbox_regression"] * self.sides.repeat(1, 2)
        boxes = torch.cat([self.centres - far[..., :2], self.centres + far[..., 2:]], -1)
        return (seen["cls_logits"].sigmoid() * seen["bbox_ctrness"].sigmoid()).sqrt(), boxes

    def shares(self, scores: Tensor) -> Tensor:
        """See `Raw`."""
        return scores


class Proposals(Raw):
    """Faster R-CNN's proposals: one class, the objectness."""

    taps = ("net.rpn.head.conv",)

    def anchors_of(self, x: Tensor) -> Tensor:
        """See `Raw`."""
        maps = list(self.net.backbone.eval()(x).values())
        anchors: Tensor = self.net.rpn.anchor_generator(ImageList(x, [nets.SIZE]), maps)[0]
        return anchors

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Raw`."""
        scores, offsets = self.net.rpn.head(list(self.net.backbone(x).values()))
        scores, offsets = rpn.concat_box_prediction_layers(scores, offsets)
        return scores.reshape(x.shape[0], -1, 1), self.decoded(offsets.reshape(x.shape[0], -1, 4))

    def found(self, x: Tensor) -> list[tuple[float, int, Tensor]]:
        """See `Raw`."""
        boxes, _ = self.net.rpn(ImageList(x, [nets.SIZE] * len(x)), self.net.backbone(x))
        best = self.raw(x)[0].sigmoid().amax((1, 2)).tolist()
        return [(share, 0, one[0]) for share, one in zip(best, boxes, strict=True)]


class Regions(Softmax):
    """Faster R-CNN's second stage on fixed proposals: a row's box is that of its best class."""

    batch = 1

    def anchors_of(self, x: Tensor) -> Tensor:
        """See `Raw`: the proposals; some are read from the coarse level."""
        return torch.tensor([[4.0, 4, 36, 28], [30, 20, 66, 55], [50, 2, 90, 30], [2, 1, 95, 63], [10, 3, 88, 60]])

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Raw`."""
        heads = self.net.roi_heads
        proposals = torch.cat([self.centres - self.sides / 2, self.centres + self.sides / 2], 1)
        read = heads.box_roi_pool(self.net.backbone(x), [proposals] * len(x), [nets.SIZE] * len(x))
        scores, offsets = heads.box_predictor(heads.box_head(read))
        scores, offsets = (
            scores.reshape(x.shape[0], -1, nets.CLASSES + 1),
            offsets.reshape(x.shape[0], -1, nets.CLASSES + 1, 4),
        )
        best = scores[..., 1:].argmax(-1) + 1
        own = offsets.gather(2, best[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
        return scores, self.decoded(own, heads.box_coder.weights)

    def found(self, x: Tensor) -> list[tuple[float, int, Tensor]]:
        """See `Raw`."""
        proposals = torch.cat([self.centres - self.sides / 2, self.centres + self.sides / 2], 1)
        seen, _ = self.net.roi_heads(self.net.backbone(x), [proposals] * len(x), [nets.SIZE] * len(x))
        return [(float(one["scores"][0]), int(one["labels"][0]), one["boxes"][0]) for one in seen]


MADE: dict[str, tuple[Any, type[Raw]]] = {
    "ssdlite": (ssdlite_net, Softmax),
    "retinanet": (retinanet_net, Raw),
    "fcos": (fcos_net, Fcos),
    "proposals": (faster_rcnn_net, Proposals),
    "regions": (faster_rcnn_net, Regions),
}


def made(name: str) -> Raw:
    """A detector of random weights whose layers give numbers of the size of 1, offsets of 0.2 (Mishkin & Matas 2016, LSUV)."""
    torch.manual_seed(5)
    network = MADE[name][0]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    seen: set[nn.Module] = set()

    def scaled(layer: Any, _given: Any, y: Tensor, size: float) -> Any:
        if layer in seen:  # a head reads all levels
            return None
        seen.add(layer)
        layer.weight.normal_(0, 1)
        if layer.bias is not None:
            layer.bias.normal_(0, 0.1)
        y = layer(*_given)
        layer.weight.mul_(size / y.std())
        return layer(*_given)

    raw = MADE[name][1](network).eval()
    hooks = [
        module.register_forward_hook(partial(scaled, size=0.2 if "bbox" in path else 1.5 if "cls" in path else 1.0))
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        raw(torch.rand(3, 3, *nets.SIZE))
    for hook in hooks:
        hook.remove()
    return raw


class Align(torch.autograd.Function):
    """RoIAlign as torchvision's compiled operator is written to ONNX; its values are those of the Python fallback."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, rois: Tensor, size: int, scale: float, ratio: int) -> Tensor:
        """See `torchvision.ops.roi_align`."""
        read: Tensor = torchvision.ops.roi_align(x, rois, size, scale, ratio)
        return read

    @staticmethod
    def symbolic(g: Any, x: Any, rois: Any, size: int, scale: float, ratio: int) -> Any:
        """As torchvision's `roi_align_opset16`."""
        from torchvision.ops._register_onnx_ops import roi_align_opset16

        return roi_align_opset16(g, x, rois, scale, size, size, ratio, False)


def suppressed(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """torchvision's nms in Python: the places of the boxes that stay, the best first."""
    shared, left = torchvision.ops.box_iou(boxes, boxes), list(scores.argsort(descending=True))
    kept = []
    while left:
        kept.append(left.pop(0))
        left = [one for one in left if shared[kept[-1], one] <= overlap]
    return torch.tensor(kept, dtype=torch.int64)


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """torchvision without its compiled operators: a Python nms, and RoIAlign's fallback as it is written."""
    fallback = sys.modules["torchvision.ops.roi_align"]
    with (
        mock.patch("torchvision.ops.boxes.nms", suppressed),
        mock.patch.object(fallback, "_roi_align", fallback._roi_align.__wrapped__),  # not compiled
    ):
        yield


def written(network: Raw) -> onnx.ModelProto:
    """The file; RoIAlign as an operator of its own, as where torchvision is compiled."""
    file: Any = io.BytesIO()
    align = torchvision.ops.roi_align

    def operator(x: Any, rois: Any, output_size: Any, spatial_scale: float, sampling_ratio: int) -> Any:
        return Align.apply(x, rois, output_size[0], spatial_scale, sampling_ratio)  # type: ignore[no-untyped-call]

    with warnings.catch_warnings(), mock.patch("torchvision.ops.poolers.roi_align", operator):
        warnings.simplefilter("ignore")
        open_axes = {} if network.batch else {"image": {0: "N"}}
        images = torch.rand(network.batch or 2, 3, *nets.SIZE)
        torch.onnx.export(
            network, (images,), file, dynamo=False, opset_version=17, input_names=["image"], dynamic_axes=open_axes
        )
    assert torchvision.ops.poolers.roi_align is align
    return onnx.load_from_string(file.getvalue())
