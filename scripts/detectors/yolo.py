"""Ultralytics' networks from its own yaml files: random weights, batch norms with the statistics of noise."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from ultralytics import RTDETR, YOLO
from ultralytics.utils.plotting import class_activation_map

from xai_deploy import Explanation

from .live import Explained, Maps, differentiate, nearest, take_statistics

SIZE = 320


def network(name: str) -> Any:
    """A network with random weights and scales, whose batch norms have the statistics of noise: without them a deep network of
    random weights hardly depends on its image."""
    torch.manual_seed(0)
    made = (RTDETR if name.startswith("rtdetr") else YOLO)(f"{name}.yaml")
    head = made.model.model[-1]
    if name.startswith("rtdetr"):
        for layer in (head.enc_score_head, *head.dec_score_head):
            layer.weight.data.normal_(0, 0.05)  # scores that are neither equal nor all 1
        for path, parameter in head.named_parameters():
            if (
                "bbox_head" in path or "sampling_offsets" in path
            ):  # at first they read exactly between pixels, where gradients jump
                parameter.data += torch.randn_like(parameter) * 0.03
    for module in made.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(0, 0.1)
        elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:  # the last layers: tiny at first
            module.weight.data.normal_(0, 0.3)
    take_statistics(made.model, made.model, SIZE)
    return made


class Affine(torch.nn.Module):
    """A batch norm as it computes in use.

    PyTorch 2.13's own gradient of it is wrong before `flatten(2).permute(0, 2, 1)`, as RT-DETR reads its levels: central
    differences show it.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()[:, None, None]
        self.shift = (norm.bias - norm.running_mean * self.scale[:, 0, 0]).detach()[:, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x * scale + shift."""
        result: torch.Tensor = x * self.scale + self.shift
        return result


class Ultralytics:
    """One of Ultralytics' networks, and the ONNX file that Ultralytics writes.

    Args:
        name: That of its yaml file; with `:end2end`, the form that chooses its rows in the graph.
    """

    def __init__(self, name: str) -> None:
        self.name, _, form = name.partition(":")
        self.end_to_end = form == "end2end"
        self.drawn = not self.end_to_end and not name.startswith("rtdetr")
        """Whether Ultralytics' `class_activation_map` is compared."""
        self.made = network(self.name)
        if (
            self.end_to_end
        ):  # its number is a probability, and where that is 1 in float32, rounding alone orders the rows
            for branch in self.made.model.model[-1].one2one_cv3:
                branch[-1].weight.data *= 0.1

    def write(self, folder: Path) -> tuple[Path, dict[str, Any]]:
        """The file; afterwards the live network is fused as for the file, and as the `.pt` runs in Ultralytics' predictor."""
        how = {"nms": False} if self.end_to_end else {}
        file = Path(self.made.export(format="onnx", imgsz=SIZE, simplify=False, verbose=False, **how))
        model = self.made.model
        model.end2end = self.end_to_end
        model = model.fuse(verbose=False)
        for projection in getattr(model.model[-1], "input_proj", ()):
            projection[1] = Affine(projection[1])
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.narrow = copy.deepcopy(model).eval()
        self.wide = model.double().eval()
        return folder / file, {}

    def images(self, count: int) -> torch.Tensor:
        """See `Live`."""
        return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))

    def explained(self, x: torch.Tensor, got: Explanation, wide: bool) -> Explained:
        """See `Live`. A row that the graph chose is looked for by its class and box: rounding orders rows that are nearly equal."""
        model, x = (self.wide, x.double()) if wide else (self.narrow, x)
        found, head = got.detections[0][0], model.model[-1]
        seen: list[torch.Tensor] = []
        handle = head.register_forward_pre_hook(lambda _m, inputs: seen.extend(inputs[0]))
        head.shape = None
        with torch.enable_grad():
            y, raw = model(x.clone().requires_grad_(True))
            handle.remove()
            if self.drawn:
                logit = raw.get("one2many", raw)["scores"][0, found.index, found.row]
                return differentiate(logit, seen, float(logit))
            rows, box = y[0], torch.tensor(found.box)
            corners = rows[:, :4]
            if self.name.startswith("rtdetr"):
                centre, half = rows[:, :2] * SIZE, rows[:, 2:4] * SIZE / 2
                corners = torch.cat([centre - half, centre + half], 1)
            apart = (corners.detach() - box).abs().amax(1)
            row = nearest(torch.where(rows[:, 5] == found.index, apart, torch.inf))
            value = rows[row, 4]
            assert got.score is not None
            score = abs(float(got.score[0]))
            if abs(score - float(value)) > abs(score - float(value.logit().abs())):
                value = value.logit()
            return differentiate(value, seen, float(value))

    def own_map(self, x: torch.Tensor, folder: Path) -> tuple[Maps, float]:
        """What Ultralytics' own function draws of the best row [H,W], before it is rounded to bytes, and that row's logit."""
        maps: list[torch.Tensor] = []
        logits: list[float] = []
        byte, grad = torch.Tensor.byte, torch.autograd.grad

        def rounded(value: torch.Tensor) -> torch.Tensor:
            maps.append(value)
            return byte(value)

        def asked(score: torch.Tensor, *given: Any, **how: Any) -> Any:
            logits.append(float(score.detach()))
            return grad(score, *given, **how)

        with mock.patch.object(torch.Tensor, "byte", rounded), mock.patch.object(torch.autograd, "grad", asked):
            # above 1: the best row alone
            class_activation_map(Backend(self.wide), x.double(), ["image.jpg"], folder, conf=2.0)
        return maps[0][0].detach().numpy() / 255, logits[0]


class Backend:
    """The live network as Ultralytics' predictor hands it over."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, x: torch.Tensor) -> Any:
        """The network's own result."""
        return self.model(x)
