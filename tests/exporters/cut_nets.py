"""Tiny torch networks of the kinds whose tensors are easily taken for feature maps, for the tests of cuts."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

SHAPE = (3, 16, 24)
GRID = (4, 6)  # patches of 4
CLASSES, WIDTH = 5, 8


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    weighed: torch.Tensor = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v
    return weighed


def images(x: torch.Tensor, p: int) -> torch.Tensor:
    """[N,C,H,W] -> [N,T,p*p*C], as einops' rearrange writes it."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // p, p, w // p, p).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(n, (h // p) * (w // p), p * p * c)


class Patches(nn.Module):
    """Rearrange and a linear layer in place of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(48, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(self.linear(images(x, 4)))


class Attention(nn.Module):
    """Pre-norm attention of two heads, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.mlp = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + attend(q, k, v).transpose(1, 2).reshape(n, t, c)
        return torch.Tensor(x + F.gelu(self.mlp(self.norm2(x))))


class RearrangedVit(nn.Module):
    """Patches by reshaping and a linear layer, prefix tokens, two blocks."""

    def __init__(self, prefix: int = 1) -> None:
        super().__init__()
        self.patches = Patches()
        self.tokens = nn.Parameter(torch.randn(1, prefix, WIDTH))
        self.place = nn.Parameter(torch.randn(1, 24 + prefix, WIDTH))
        self.block1, self.block2 = Attention(), Attention()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x)
        x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), x], 1) + self.place
        return torch.Tensor(self.head(self.block2(self.block1(x))[:, 0]))


class Mixer(nn.Module):
    """MLP-Mixer: tokens are mixed by a linear layer over them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.norm1, self.norm2, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.tokens1, self.tokens2 = nn.Linear(24, 12), nn.Linear(12, 24)
        self.channels = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.tokens2(F.gelu(self.tokens1(self.norm1(x).transpose(1, 2)))).transpose(1, 2)
        x = x + F.gelu(self.channels(self.norm2(x)))
        return torch.Tensor(self.head(self.norm(x).mean(1)))


class Windows(nn.Module):
    """Swin: attention in shifted windows of 2 x 2 over [N,h,w,C], and patches merged by reshaping."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.block1, self.block2 = Attention(), Attention()
        self.merge = nn.Linear(4 * WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        x = self.windows(x, self.block1)
        x = torch.roll(self.windows(torch.roll(x, (-1, -1), (1, 2)), self.block2), (1, 1), (1, 2))
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 4, 2, 5).reshape(n, h // 2, w // 2, 4 * c)
        return torch.Tensor(self.head(self.norm(self.merge(x)).mean((1, 2))))

    def windows(self, x: torch.Tensor, block: nn.Module) -> torch.Tensor:
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        x = block(x).reshape(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(n, h, w, c)


class Unrolled(nn.Module):
    """Hiera: tokens in the order of windows; each window's largest goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.block1, self.block2 = Attention(), Attention()
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w, c)
        x = self.block1(x)
        x = self.block2(x.reshape(n, 4, h * w // 4, c).amax(1))
        return torch.Tensor(self.head(self.norm(x).mean(1)))


class Probe(nn.Module):
    """SigLIP: a learned query reads the tokens, its heads as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.block = Attention()
        self.norm = nn.LayerNorm(WIDTH)
        self.probe = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.kv = nn.Linear(WIDTH, 2 * WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.block(self.stem(x).flatten(2).transpose(1, 2)))
        n, t, c = x.shape
        k, v = self.kv(x).reshape(n, t, 2, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        q = self.probe.expand(n, -1, -1).reshape(n, 1, 2, c // 2).transpose(1, 2)
        return torch.Tensor(self.head(attend(q, k, v).transpose(1, 2).reshape(n, c)))


class GeM(nn.Module):
    """Generalised-mean pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(x.clamp(min=1e-6).pow(self.p), 1).pow(1 / self.p)


class LogSumExp(nn.Module):
    """Smooth maximum over positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.exp(2 * x).mean((2, 3))) / 2


class Pooled(nn.Module):
    """Convolutions `f`, which end in a ReLU or not, and a pooling."""

    def __init__(self, pool: nn.Module, relu: bool = True) -> None:
        super().__init__()
        end = [nn.ReLU()] if relu else []
        self.f = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), *end
        )
        self.pool, self.head = pool, nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.Tensor(self.head(self.pool(self.f(x)).flatten(1)))


class Gated(nn.Module):
    """Squeeze and excitation, coordinate gates, a cropped branch, channels shuffled: all keep their places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, stride=2, padding=1)
        self.gate, self.valid = nn.Linear(WIDTH, WIDTH), nn.Conv2d(WIDTH, WIDTH, 3)
        self.last = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        x = x * torch.sigmoid(x.mean(3, keepdim=True)) * torch.sigmoid(x.mean(2, keepdim=True))
        x = self.valid(x) + x[:, :, 1:-1, 1:-1]
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return torch.Tensor(self.head(torch.relu(self.last(x)).mean((2, 3))))


class Pyramid(nn.Module):
    """Two poolings side by side, one of which leaves positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([F.max_pool2d(x, 4).flatten(1)[:, :4], x.mean((2, 3))[:, 4:]], 1)


class InnerPatches(nn.Module):
    """TNT: each patch of 8 x 8 pixels is an image of its own, whose 2 x 2 inner patches become the patch's token."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, WIDTH, 7, stride=4, padding=3)
        self.norm1, self.project, self.norm2 = nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.block = Attention()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, 8, 8)
        pixels = self.inner(x).flatten(2).transpose(1, 2)
        x = self.norm2(self.project(self.norm1(pixels.reshape(n, h * w // 64, 4 * WIDTH))))
        return torch.Tensor(self.head(self.block(x).mean(1)))


class SharedQuery(nn.Module):
    """GC ViT: the queries are the means of a coarse grid over the whole image, the same in every window."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, stride=4)
        self.norm, self.kv, self.q = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        q = self.q(F.avg_pool2d(x, 2).flatten(2).transpose(1, 2))  # [N,6,C], for each of 4 windows of 2 x 3
        x = x.permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        y = self.norm(x).reshape(n, h // 2, 2, w // 3, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 6, c)
        k, v = self.kv(y).chunk(2, -1)
        y = attend(q.repeat_interleave(4, 0), k, v)
        x = x + y.reshape(n, h // 2, w // 3, 2, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return torch.Tensor(self.head(self.last(x).mean((1, 2))))


class Branches(nn.Module):
    """CrossViT: patches of two sizes, and the mean of the two branches' logits, which are stacked first."""

    def __init__(self) -> None:
        super().__init__()
        self.stems = nn.ModuleList([nn.Conv2d(3, WIDTH, 4, stride=4), nn.Conv2d(3, WIDTH, 8, stride=8)])
        self.blocks = nn.ModuleList([Attention(), Attention()])
        self.heads = nn.ModuleList([nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, CLASSES)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [
            head(block(stem(x).flatten(2).transpose(1, 2)).mean(1))
            for stem, block, head in zip(self.stems, self.blocks, self.heads, strict=True)
        ]
        return torch.stack(parts).mean(0)
