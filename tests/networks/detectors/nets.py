"""Small detectors in the layouts that are deployed; each states its rows as formulas in torch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

SIZE = (64, 96)
CLASSES = 3
STRIDES = (8, 16)


def conv(k: int, c: int, stride: int = 1) -> nn.Sequential:
    """3 x 3, with an activation."""
    return nn.Sequential(nn.Conv2d(k, c, 3, stride, 1), nn.SiLU())


class Pyramid(nn.Module):
    """Maps of strides 8 and 16; the coarse one is made of the fine one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8, 2), conv(8, 8, 2))
        self.fine = conv(8, 12, 2)
        self.coarse = conv(12, 16, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N,12,h/8,w/8], [N,16,h/16,w/16]."""
        fine = self.fine(self.stem(x))
        return [fine, self.coarse(fine)]


class Heads(nn.Module):
    """A pyramid and, for each level, a branch for scores and one for boxes; `join` puts them together."""

    scores, boxes = CLASSES, 4

    def __init__(self) -> None:
        super().__init__()
        self.body = Pyramid()
        self.score = nn.ModuleList(nn.Sequential(conv(k, 8), nn.Conv2d(8, self.scores, 1)) for k in (12, 16))
        self.box = nn.ModuleList(nn.Sequential(conv(k, 8), nn.Conv2d(8, self.boxes, 1)) for k in (12, 16))

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [N,S,rows] and offsets [N,B,rows]."""
        maps = self.body(x)
        scores = torch.cat([net(m).flatten(2) for net, m in zip(self.score, maps, strict=True)], 2)
        boxes = torch.cat([net(m).flatten(2) for net, m in zip(self.box, maps, strict=True)], 2)
        return scores, boxes

    def forward(self, x: Tensor) -> Any:
        """The outputs."""
        raise NotImplementedError

    def rows(self, x: Tensor) -> Tensor:
        """[N,entries,rows], what is explained: a score for each class, then the box as the network gives it."""
        raise NotImplementedError


def grid() -> tuple[Tensor, Tensor]:
    """The cells [2,rows] (column, row) and strides [rows] of all levels."""
    cells, strides = [], []
    for s in STRIDES:
        h, w = math.ceil(SIZE[0] / s), math.ceil(SIZE[1] / s)
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        cells.append(torch.stack([x.flatten(), y.flatten()]))
        strides.append(torch.full((h * w,), s))
    return torch.cat(cells, 1).float(), torch.cat(strides).float()


def centred(offsets: Tensor) -> Tensor:
    """cx, cy, w, h in pixels [N,4,rows] from offsets."""
    cells, strides = grid()
    centre = (cells + 0.5 + offsets[:, :2].tanh()) * strides
    return torch.cat([centre, offsets[:, 2:].exp() * strides * 2], 1)


class YoloV8(Heads):
    """[N,4+C,rows]."""

    def rows(self, x: Tensor) -> Tensor:
        """See `Heads`."""
        scores, boxes = self.raw(x)
        return torch.cat([scores, centred(boxes)], 1)

    def forward(self, x: Tensor) -> Tensor:
        """See `Heads`."""
        scores, boxes = self.raw(x)
        return torch.cat([centred(boxes), scores.sigmoid()], 1)


class YoloSegments(YoloV8):
    """YOLOv8 with mask coefficients, and prototypes of masks as a second output."""

    def forward(self, x: Tensor) -> Any:
        """See `Heads`."""
        scores, boxes = self.raw(x)
        return torch.cat([centred(boxes), scores.sigmoid(), boxes.tanh()], 1), self.body(x)[0]


class WithObjectness(Heads):
    """Probabilities of which the first one is the objectness."""

    scores = CLASSES + 1

    def objectness(self, x: Tensor) -> Tensor:
        """How likely each row is any object, [N,rows]."""
        return self.raw(x)[0][:, 0].sigmoid()


class YoloV5(WithObjectness):
    """[N,rows,5+C]."""

    def rows(self, x: Tensor) -> Tensor:
        """See `Heads`: objectness times probability."""
        scores, boxes = self.raw(x)
        shares = scores.sigmoid()
        return torch.cat([shares[:, 1:] * shares[:, :1], centred(boxes)], 1)

    def forward(self, x: Tensor) -> Tensor:
        """See `Heads`."""
        scores, boxes = self.raw(x)
        return torch.cat([centred(boxes), scores[:, :1].sigmoid(), scores[:, 1:].sigmoid()], 1).transpose(1, 2)


class YoloX(WithObjectness):
    """[N,rows,5+C], boxes not decoded."""

    def rows(self, x: Tensor) -> Tensor:
        """See `Heads`: `YOLOXHead.decode_outputs`."""
        scores, boxes = self.raw(x)
        cells, strides = grid()
        shares = scores.sigmoid()
        centre, size = (boxes[:, :2] + cells) * strides, boxes[:, 2:].exp() * strides
        return torch.cat([shares[:, 1:] * shares[:, :1], centre, size], 1)

    def forward(self, x: Tensor) -> Tensor:
        """See `Heads`."""
        scores, boxes = self.raw(x)
        return torch.cat([boxes, scores[:, :1].sigmoid(), scores[:, 1:].sigmoid()], 1).transpose(1, 2)


class Ssd(Heads):
    """Scores by a Softmax whose class 0 is the background, boxes as corners in fractions."""

    def corners(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N,C,rows] and boxes [N,4,rows]."""
        scores, boxes = self.raw(x)
        boxes = centred(boxes) / torch.tensor([SIZE[1], SIZE[0]] * 2)[:, None]
        return scores, torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)

    def rows(self, x: Tensor) -> Tensor:
        """See `Heads`."""
        return torch.cat(self.corners(x), 1)

    def forward(self, x: Tensor) -> Any:
        """See `Heads`."""
        scores, boxes = self.corners(x)
        return scores.transpose(1, 2).softmax(2), boxes.transpose(1, 2)


class Picodet(Heads):
    """Of each level probabilities [N,n,C] and bins of distances [N,n,32]."""

    boxes = 32

    def rows(self, x: Tensor) -> Tensor:
        """See `Heads`: PaddleDetection's `PicoDetPostProcess`."""
        scores, bins = self.raw(x)
        cells, strides = grid()
        steps = bins.reshape(len(bins), 4, 8, -1).softmax(2)
        far = (steps * torch.arange(8).reshape(8, 1)).sum(2) * strides
        centre = (cells + 0.5) * strides
        return torch.cat([scores, centre - far[:, :2], centre + far[:, 2:]], 1)

    def forward(self, x: Tensor) -> Any:
        """See `Heads`."""
        scores, bins = (
            torch.split(value.transpose(1, 2), [math.ceil(SIZE[0] / s) * math.ceil(SIZE[1] / s) for s in STRIDES], 1)
            for value in self.raw(x)
        )
        return *(one.sigmoid() for one in scores), *bins


class EndToEnd(YoloV8):
    """[N,5,6]: the best five rows, chosen in the graph: corners in pixels, score, class."""

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [N,5], boxes [N,5,4] and classes [N,5]."""
        rows = self.rows(x)
        shares, boxes = rows[:, :CLASSES].sigmoid().transpose(1, 2), rows[:, CLASSES:].transpose(1, 2)
        best, place = shares.flatten(1).topk(5)
        row = place // CLASSES
        boxes = boxes.gather(1, row[..., None].expand(-1, -1, 4))
        boxes = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], 2)
        return best, boxes, place % CLASSES

    def forward(self, x: Tensor) -> Tensor:
        """See `Heads`."""
        best, boxes, index = self.chosen(x)
        return torch.cat([boxes, best[..., None], index[..., None].float()], 2)


class Detr(nn.Module):
    """Five queries that attend to a map: logits [N,5,S] and boxes [N,5,4] as cx, cy, w, h in fractions.

    Args:
        scores: S.
    """

    def __init__(self, scores: int = CLASSES + 1) -> None:
        super().__init__()
        self.body = Pyramid()
        self.queries = nn.Parameter(torch.randn(5, 16))
        self.score, self.box = nn.Linear(16, scores), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Any:
        """The outputs."""
        tokens = self.body(x)[1].flatten(2).transpose(1, 2)
        read = (self.queries @ tokens.transpose(1, 2)).softmax(2) @ tokens + self.queries
        return self.score(read), self.box(read).sigmoid()

    def rows(self, x: Tensor) -> Tensor:
        """See `Heads`."""
        return torch.cat(self(x), 2).transpose(1, 2)


class Queries(nn.Module):
    """The six best of 24 positions attend to each other (RT-DETR, Deformable DETR in two stages): logits [N,6,C], boxes [N,6,4].

    Many positions are equally good: which of them are taken, and in what order, is up to the runtime.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = Pyramid()
        self.rank, self.score, self.box = nn.Linear(16, 1), nn.Linear(16, CLASSES), nn.Linear(16, 4)
        y, x = torch.meshgrid(torch.arange(4) / 4, torch.arange(6) / 6, indexing="ij")
        self.register_buffer("centres", torch.stack([x.flatten(), y.flatten()], 1) + torch.tensor([1 / 12, 1 / 8]))

    def of(self, tokens: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and boxes from all positions [N,24,16] and those that were chosen [N,6]."""
        read = tokens.gather(1, chosen[..., None].expand(-1, -1, 16))
        mixed = (read @ read.transpose(1, 2)).softmax(2) @ read + read
        box = self.box(mixed)
        centre = self.centres[chosen] + 0.02 * box[..., :2].tanh()  # type: ignore[index]
        return self.score(mixed), torch.cat([centre, 0.3 * box[..., 2:].sigmoid()], 2)

    def tokens(self, x: Tensor) -> Tensor:
        """[N,24,16]."""
        tokens: Tensor = self.body(x)[1].flatten(2).transpose(1, 2)
        return tokens

    def forward(self, x: Tensor) -> Any:
        """The outputs."""
        tokens = self.tokens(x)
        return self.of(tokens, self.ranks(tokens).topk(6, 1).indices)

    def ranks(self, tokens: Tensor) -> Tensor:
        """How good a position is, [N,24]: a whole number."""
        ranks: Tensor = (1e2 * self.rank(tokens)[..., 0]).floor()
        return ranks
