"""Trains the network with LFI-CAM's attention and the plain one beside it, and writes their weights and ONNX files.

    python models/lfi_digits/lfi_training.py --out models/lfi_digits

The trunk (stem, stage1, stage2) is that of `clutter_digits` and stays as it is, so its features are computed once. All
that follows is trained from random weights. On one processor the result is the same every time.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

DIGITS = Path(__file__).resolve().parent.parent / "clutter_digits"
sys.path.append(str(DIGITS))

import data  # noqa: E402
from lfi_network import LfiNet, PlainNet, grey  # noqa: E402
from train import EXPORT_TOML, export_onnx, preprocess  # noqa: E402

log = logging.getLogger("lfi_digits")

PICTURES = 6000  # pictures of training
TEST_COUNT = 1000  # held-out pictures to report accuracy on
NETWORKS: dict[str, type[PlainNet]] = {"lfi_digits": LfiNet, "plain_digits": PlainNet}


@dataclass(frozen=True)
class Recipe:
    """The hyper-parameters of one training.

    Attributes:
        seed: Of the weights and of the order of the pictures.
        lr: Highest learning rate of AdamW's one cycle.
        batch: Pictures per step.
        decay: Weight decay.
        epochs: Rounds over the pictures.
    """

    seed: int = 0
    lr: float = 5e-3
    batch: int = 64
    decay: float = 0.05
    epochs: int = 4


@dataclass(frozen=True)
class Features:
    """Pictures as the trained layers see them.

    Attributes:
        trunk: float32 (N, 48, 16, 16).
        grey: float32 (N, 1, 8, 8).
        labels: int64 (N,).
    """

    trunk: Tensor
    grey: Tensor
    labels: Tensor


def with_trunk(kind: type[PlainNet], seed: int) -> PlainNet:
    """Builds a network with random weights and the trunk of `clutter_digits`, which asks for no gradient."""
    torch.manual_seed(seed)
    model = kind(len(data.LABELS))
    trained = torch.load(DIGITS / "clutter_digits.pt", weights_only=True)
    model.load_state_dict(
        {k: v for k, v in trained.items() if k.startswith(("stem.", "stage1.", "stage2."))}, strict=False
    )
    for part in (model.stem, model.stage1, model.stage2):
        part.requires_grad_(False)
    return model.eval()


@torch.no_grad()  # not inference_mode, whose tensors no training takes
def features_of(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Features:
    """Computes what the trained layers see.

    Args:
        images: RGB, uint8 (N, 64, 64, 3).
        labels: Classes, int64 (N,).
    """
    model = with_trunk(PlainNet, 0)
    parts = []
    for chunk in torch.split(torch.from_numpy(images), 100):
        x = preprocess(chunk)
        parts.append((model.trunk(x), grey(x)))
    return Features(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), torch.from_numpy(labels))


def pictures(split: data.Split, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Draws the first pictures of a split: images uint8 (N, 64, 64, 3), classes (N,), true boxes (N, 4)."""
    drawn = list(tqdm(data.samples(split, count), f"drawing {split}", count, leave=False))
    return (
        np.stack([s.image for s in drawn]),
        np.array([s.label for s in drawn], np.int64),
        np.array([s.box for s in drawn], np.int64),
    )


def steps(model: PlainNet, seen: Features, recipe: Recipe) -> Iterator[None]:
    """Trains the layers after the trunk in place; yields after each step, and leaves the network in evaluation mode."""
    torch.use_deterministic_algorithms(True)
    trained = [p for p in model.parameters() if p.requires_grad]
    # Norms and biases are not decayed: pulling them to zero regularises nothing.
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
    count = len(seen.labels) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=count * recipe.epochs)
    order = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.epochs):
        shuffled = torch.randperm(len(seen.labels), generator=order)
        for chosen in torch.split(shuffled, recipe.batch)[:count]:
            model.train()
            loss = functional.cross_entropy(model.head(seen.trunk[chosen], seen.grey[chosen]), seen.labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            model.eval()
            yield


def trained(kind: type[PlainNet], seen: Features, recipe: Recipe) -> PlainNet:
    """Trains a network from random weights after the trunk."""
    model = with_trunk(kind, recipe.seed)
    total = len(seen.labels) // recipe.batch * recipe.epochs
    for _ in tqdm(steps(model, seen, recipe), f"{kind.__name__} seed {recipe.seed}", total, leave=False):
        pass
    return model


@torch.inference_mode()
def accuracy(model: PlainNet, seen: Features) -> float:
    """Returns the share of pictures classified correctly, 0 to 1."""
    return float((model.head(seen.trunk, seen.grey).argmax(1) == seen.labels).float().mean())


def write(model: nn.Module, folder: Path, name: str) -> None:
    """Writes a network's weights, ONNX file, and what the exporter needs to know."""
    torch.save(model.state_dict(), folder / f"{name}.pt")
    export_onnx(model, folder / f"{name}.onnx")
    toml = EXPORT_TOML.replace("clutter_digits", name).replace("export.toml", f"{name}.toml")
    (folder / f"{name}.toml").write_text(toml, encoding="utf-8")
    (folder / "labels.txt").write_text("\n".join(data.LABELS) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the command line, trains both networks, reports and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    seen = features_of(*pictures("train", PICTURES)[:2])
    held = features_of(*pictures("test", TEST_COUNT)[:2])
    for name, kind in NETWORKS.items():
        model = trained(kind, seen, Recipe())
        log.info("%s: accuracy on %d held-out pictures %.2f %%", name, TEST_COUNT, 100 * accuracy(model, held))
        write(model, args.out, name)


if __name__ == "__main__":
    main()
