"""Trains the reference network on freshly drawn pictures and writes its weights, its ONNX file and its samples.

    python models/clutter_digits/train.py --epochs 20 --out models/clutter_digits

On one processor with the same seed and number of threads the result is the same every time.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import re
import time
from pathlib import Path
from typing import Any

import cv2
import data
import numpy as np
import onnx
import onnxruntime as ort
import torch
from network import clutter_net
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger("clutter_digits")

NAME = "clutter_digits"
# The network's input is (pixel * SCALE - MEAN) / STD; export.toml tells the exporter the same.
SCALE, MEAN, STD = 1.0 / 255.0, 0.5, 0.25
EVAL_COUNT = 2000  # pictures per split to report accuracy on
CAM_COUNT = 500  # test pictures to report localisation on
EVAL_SEED = 0  # fixed, so that every training is judged on the same pictures

# Pictures of the test split, picked by eye; the ten digits in order, then two more.
SAMPLE_INDICES = (33, 17, 133, 149, 79, 87, 34, 81, 53, 82, 72, 40)

EXPORT_TOML = """\
# What xai-export needs to know about this network: xai-export clutter_digits.onnx --config export.toml
name = "clutter_digits"
labels = "labels.txt"
input-shape = [3, 64, 64]

[preprocess]
resize = "stretch"       # samples are 64 x 64 already
color = "RGB"
scale = 0.00392156862745098
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
"""

Batch = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


class Batches(Dataset[Batch]):
    """Pictures of one split, drawn batch by batch in the loader's processes.

    An item is (images, labels, boxes): uint8 (N, 64, 64, 3), int64 (N,), int64 (N, 4).
    """

    def __init__(self, split: data.Split, count: int, batch_size: int, seed: int, start: int = 0) -> None:
        """Remembers which pictures to draw.

        Args:
            split: Whose source digits to use.
            count: How many pictures.
            batch_size: Pictures per item; the last item may hold fewer.
            seed: Seed of the pictures.
            start: Number of the first picture.
        """
        self.split, self.seed = split, seed
        self.starts = range(start, start + count, batch_size)
        self.stop = start + count

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self.starts)

    def __getitem__(self, item: int) -> Batch:
        """Draws one batch."""
        if not 0 <= item < len(self.starts):
            raise IndexError(item)
        first = self.starts[item]
        drawn = list(data.samples(self.split, min(self.starts.step, self.stop - first), self.seed, first))
        return (
            np.stack([sample.image for sample in drawn]),
            np.array([sample.label for sample in drawn], dtype=np.int64),
            np.array([sample.box for sample in drawn], dtype=np.int64),
        )


def loader(pictures: Batches, workers: int) -> DataLoader[Batch]:
    """Loads batches in order; `pictures` makes whole batches, so the loader must not batch again."""
    return DataLoader(pictures, batch_size=None, num_workers=workers, worker_init_fn=_one_thread)


def _one_thread(_worker: int) -> None:
    # On pictures this small OpenCV's threads only get in each other's way.
    cv2.setNumThreads(1)


def preprocess(images: Tensor) -> Tensor:
    """Turns pixels, uint8 (N, 64, 64, 3), into the network's input, float32 (N, 3, 64, 64), range -2 to 2."""
    return (images.permute(0, 3, 1, 2).float() * SCALE - MEAN) / STD


def train(model: nn.Module, args: argparse.Namespace) -> None:
    """Trains a network in place; no picture is shown twice."""
    # Convolutions on the CPU are about a quarter faster in this memory layout.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Norms and biases are not decayed: pulling them to zero regularises nothing.
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": args.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr)
    steps = math.ceil(args.pictures / args.batch_size) * args.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps, pct_start=0.15)
    for epoch in range(args.epochs):
        model.train()
        began, losses = time.perf_counter(), []
        pictures = Batches("train", args.pictures, args.batch_size, args.seed, epoch * args.pictures)
        for images, labels, _ in tqdm(loader(pictures, args.workers), f"epoch {epoch + 1}/{args.epochs}", leave=False):
            loss = functional.cross_entropy(model(preprocess(images)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        accuracy, _ = evaluate(model, Batches("val", 500, 100, EVAL_SEED), args.workers)
        log.info("epoch %2d/%d: loss %.4f, val accuracy %.1f %%, %.0f s",
                 epoch + 1, args.epochs, np.mean(losses), 100 * accuracy, time.perf_counter() - began)  # fmt: skip
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.eval()


@torch.inference_mode()
def evaluate(model: nn.Module, pictures: Batches, workers: int) -> tuple[float, NDArray[np.int64]]:
    """Measures accuracy.

    Args:
        model: Network to measure; left in evaluation mode.
        pictures: What to measure it on.
        workers: Processes that draw pictures.

    Returns:
        Share of pictures classified correctly, 0 to 1, and the confusion matrix (10, 10), true class by predicted.
    """
    model.eval()
    confusion = np.zeros((10, 10), dtype=np.int64)
    for images, labels, _ in loader(pictures, workers):
        np.add.at(confusion, (labels.numpy(), model(preprocess(images)).argmax(1).numpy()), 1)
    return float(np.trace(confusion) / confusion.sum()), confusion


@torch.inference_mode()
def localisation(model: nn.Module, pictures: Batches) -> dict[str, float]:
    """Measures how well plain CAM finds the digit.

    The map is that of the predicted class: the last stage's feature maps weighted with the class's row of `fc`,
    negative values cut off, bilinearly enlarged to the picture.

    Args:
        model: Trained network in evaluation mode.
        pictures: What to measure it on.

    Returns:
        `energy`: mean share of the map's sum that lies in the box; `area`: mean share of the box in the picture;
        `gain`: mean over the pictures of energy / area, 1 for a uniform map; `pointing`: share of pictures where the
        map's highest pixel lies in the box.
    """
    features: list[Tensor] = []
    handle = model.get_submodule("stage3").register_forward_hook(lambda _m, _i, output: features.append(output))
    weight = model.get_submodule("fc").get_parameter("weight")
    energies, areas, hits = [], [], []
    for images, _, boxes in loader(pictures, workers=0):
        features.clear()
        predicted = model(preprocess(images)).argmax(1)
        maps = torch.einsum("nc,nchw->nhw", weight[predicted], features[0]).relu()
        maps = functional.interpolate(maps[:, None], size=(data.SIZE, data.SIZE), mode="bilinear")[:, 0]
        for heat, (x0, y0, x1, y1) in zip(maps, boxes.tolist(), strict=True):
            energies.append(float(heat[y0:y1, x0:x1].sum() / heat.sum().clamp_min(1e-12)))
            areas.append((x1 - x0) * (y1 - y0) / data.SIZE**2)
            y, x = divmod(int(heat.argmax()), data.SIZE)
            hits.append(x0 <= x < x1 and y0 <= y < y1)
    handle.remove()
    energy, area = np.array(energies), np.array(areas)
    return {"energy": float(energy.mean()), "area": float(area.mean()), "gain": float((energy / area).mean()),
            "pointing": float(np.mean(hits))}  # fmt: skip


def export_onnx(model: nn.Module, path: Path) -> None:
    """Writes one self-contained ONNX file with a free batch size and checks it against PyTorch.

    Args:
        model: Trained network in evaluation mode.
        path: File to write.

    Raises:
        RuntimeError: ONNX Runtime and PyTorch disagree.
    """
    # The batch of the example is not 1: the exporter would take a 1 for a constant.
    example = torch.zeros(2, 3, data.SIZE, data.SIZE)
    program = torch.onnx.export(
        model, (example,), dynamo=True, opset_version=18, input_names=["image"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
    )  # fmt: skip
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    proto = program.model_proto
    proto.ir_version = 10  # what ONNX Runtime 1.20 reads
    strip_metadata(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)

    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.randn(batch, 3, data.SIZE, data.SIZE, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            expected = model(images).numpy()
        (got,) = session.run(["logits"], {"image": images.numpy()})
        difference = float(np.abs(np.asarray(got) - expected).max())
        log.info("ONNX Runtime and PyTorch at batch %d: largest difference %.1e", batch, difference)
        if difference > 1e-4:
            raise RuntimeError(f"{path.name} gives other logits than the network: {difference:.3g} at batch {batch}")


def strip_metadata(proto: onnx.ModelProto) -> None:
    """Removes what the exporter notes about this machine: stack traces, source lines, paths.

    Module paths and classes (`pkg.torch.onnx.name_scopes`, `pkg.torch.onnx.class_hierarchy`) stay.

    Args:
        proto: Model, changed in place.
    """
    source = re.compile(r'File "|\.py\b|(?:^|[\s\'"])(?:/|[A-Za-z]:\\)\w')
    graph = proto.graph
    holders = [proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info]
    for function in proto.functions:
        holders += [function, *function.node]
    for holder in holders:
        holder.doc_string = ""
        kept = [entry for entry in holder.metadata_props
                if entry.key != "pkg.torch.onnx.stack_trace" and not source.search(entry.value)]  # fmt: skip
        del holder.metadata_props[:]
        holder.metadata_props.extend(kept)


def write_samples(model: nn.Module, folder: Path) -> None:
    """Writes the sample pictures as PNG with their true boxes, and says which ones the network gets wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    for number, index in enumerate(SAMPLE_INDICES):
        sample = data.draw("test", index, EVAL_SEED)
        label = data.LABELS[sample.label]
        name = f"{number:02d}_{label}.png"
        if not cv2.imwrite(str(folder / name), cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"cannot write {name}")
        entries.append({"image": name, "class": sample.label, "label": label, "box": list(sample.box)})
        with torch.inference_mode():
            scores = model(preprocess(torch.from_numpy(sample.image[None]))).softmax(1)[0]
        predicted = int(scores.argmax())
        level = logging.INFO if predicted == sample.label else logging.WARNING
        log.log(level, "%s: predicted %s (%.1f %%)", name, data.LABELS[predicted], 100 * float(scores[predicted]))
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    (folder / "boxes.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def report(model: nn.Module, args: argparse.Namespace) -> None:
    """Logs the figures that the model card states."""
    for split in data.SPLITS:
        # On the train split too the pictures are new; only the source digits are those trained on.
        start = args.epochs * args.pictures if split == "train" else 0
        accuracy, confusion = evaluate(model, Batches(split, EVAL_COUNT, 100, EVAL_SEED, start), args.workers)
        wrong = confusion - np.diag(np.diag(confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[: min(6, np.count_nonzero(wrong))]
        pairs = [np.unravel_index(i, wrong.shape) for i in order]
        worst = ", ".join(f"{data.LABELS[t]} taken for {data.LABELS[p]} {wrong[t, p]}x" for t, p in pairs)
        log.info(
            "%s accuracy on %d pictures: %.2f %%; most often: %s", split, EVAL_COUNT, 100 * accuracy, worst or "none"
        )
    found = localisation(model, Batches("test", CAM_COUNT, 100, EVAL_SEED))
    log.info("CAM on %d test pictures: %.3f of the energy in boxes that take %.3f of the area (gain %.2f), "
             "highest pixel in the box %.1f %%", CAM_COUNT, found["energy"], found["area"], found["gain"],
             100 * found["pointing"])  # fmt: skip


def main() -> None:
    """Reads the command line, trains, reports and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--epochs", type=int, default=20, help="rounds of training (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--pictures", type=int, default=10_000, help="new pictures per epoch (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="pictures per step (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=4e-3, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="of AdamW (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and pictures (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw (default: %(default)s)")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)  # ours alone: the exporter's log is long

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    args.out.mkdir(parents=True, exist_ok=True)
    model = clutter_net(len(data.LABELS))
    log.info("%d parameters", sum(p.numel() for p in model.parameters()))
    began = time.perf_counter()
    with logging_redirect_tqdm():
        train(model, args)
    log.info("trained in %.1f minutes", (time.perf_counter() - began) / 60)
    report(model, args)

    torch.save(model.state_dict(), args.out / f"{NAME}.pt")
    export_onnx(model, args.out / f"{NAME}.onnx")
    (args.out / "labels.txt").write_text("\n".join(data.LABELS) + "\n", encoding="utf-8")
    (args.out / "export.toml").write_text(EXPORT_TOML, encoding="utf-8")
    write_samples(model, args.out / "samples")


if __name__ == "__main__":
    main()
