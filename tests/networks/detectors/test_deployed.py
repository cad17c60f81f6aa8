"""Detectors as their repositories deploy them: boxes, scores and classes in three outputs, and the photo's size as an input.

The reference is ONNX Runtime on the source file, which gets the size of its image, and autograd on the live network.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from xai_exporters import Export, Request, export
from xai_exporters.errors import RequestError

from xai_deploy import Explainer

from . import nets
from .conftest import ALL

HEIGHT, WIDTH = nets.SIZE
BACKENDS = ("onnxruntime", "openvino")


def as_corners(boxes: torch.Tensor) -> torch.Tensor:
    """[N,rows,4]: cx, cy, w, h as left, top, right, bottom."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


class RtDetr(nets.Detr):
    """The five best pairs of a query and a class: `RTDETRPostProcessor.forward` with `deploy_mode` and `use_focal_loss`.

    Args:
        whole: `orig_target_sizes` is int64, as D-FINE's, and not float32.
    """

    names: tuple[str, ...] = ("images", "orig_target_sizes")

    def __init__(self, whole: bool = True) -> None:
        super().__init__(nets.CLASSES)
        self.whole = whole

    @property
    def sizes(self) -> list[torch.Tensor]:
        """What the network is given for one image beside it: width, height."""
        return [torch.tensor([[WIDTH, HEIGHT]]).to(torch.int64 if self.whole else torch.float32)]

    def forward(self, x: torch.Tensor, size: torch.Tensor) -> Any:  # type: ignore[override]
        """Classes, boxes, scores."""
        logits, boxes = super().forward(x)
        boxes = as_corners(boxes) * size.repeat(1, 2).unsqueeze(1)
        scores, index = logits.sigmoid().flatten(1).topk(5, dim=-1)
        query = index // nets.CLASSES
        return index - query * nets.CLASSES, boxes.gather(1, query.unsqueeze(-1).repeat(1, 1, 4)), scores


class Paddle(RtDetr):
    """PaddleDetection's two sizes: boxes are pixels of the photo, `im_shape / scale_factor`, height first."""

    names = ("image", "im_shape", "scale_factor")

    @property
    def sizes(self) -> list[torch.Tensor]:
        """See `RtDetr`."""
        return [torch.tensor([[float(HEIGHT), float(WIDTH)]]), torch.ones(1, 2)]

    def forward(self, x: torch.Tensor, shape: torch.Tensor, scale: torch.Tensor) -> Any:  # type: ignore[override]
        """See `RtDetr`."""
        return super().forward(x, (shape / scale).flip(1))


class Every(nets.YoloV8):
    """Each row's best class and its probability, of all rows in their order; nothing is suppressed."""

    names = ("images",)
    sizes: tuple[torch.Tensor, ...] = ()

    def forward(self, x: torch.Tensor) -> Any:
        """Boxes, scores, classes."""
        scores, offsets = self.raw(x)
        best, index = scores.sigmoid().max(1)
        return as_corners(nets.centred(offsets).transpose(1, 2)), best, index


def saved(network: Any, folder: Path) -> Path:
    """The network as torch's older exporter writes it, for any number of images."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    arguments = (torch.rand(1, 3, HEIGHT, WIDTH), *network.sizes)
    path = folder / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            arguments,
            path,
            dynamo=False,
            input_names=list(network.names),
            dynamic_axes={name: {0: "N"} for name in network.names},
            opset_version=17,
        )
    return path


def exported(source: Path, **options: Any) -> Export:
    return export(Request(source, output_path=source.with_suffix(".xai"), preprocess="none", **options))


def of_source(source: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Boxes [n,rows,4], scores and classes [n,rows] of the source file itself."""
    given = ort.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, feeds)
    boxes = next(value for value in given if value.ndim == 3)
    flat = [value for value in given if value.ndim == 2]
    return [boxes, next(v for v in flat if v.dtype.kind == "f"), next(v for v in flat if v.dtype.kind == "i")]


@pytest.mark.parametrize("make", [RtDetr, lambda: RtDetr(whole=False), Paddle, Every])
def test_boxes_scores_and_classes(make: Any, tmp_path: Path) -> None:
    """Every row is the source's own. All of them were refused."""
    torch.manual_seed(3)
    network = make()
    source = saved(network, tmp_path)
    done = exported(source, roles=("gradient",))
    rows = done.manifest.scores.rows
    assert rows is not None
    assert (rows.decoder, rows.form, rows.unit, rows.suppress) == ("end-to-end", "corners", "pixels", make is Every)
    assert len(done.manifest.further.ports) == 0
    for name, size in zip(network.names[1:], network.sizes, strict=True):
        shown = " ".join(f"{number:g}" for number in size[0].tolist())
        assert any(note.startswith(f"'{name}' is {shown}, so that") for note in done.notes)
    x = torch.rand(3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    sizes = {n: s.repeat(3, 1).numpy() for n, s in zip(network.names[1:], network.sizes, strict=True)}
    boxes, scores, classes = of_source(source, {network.names[0]: x.numpy(), **sizes})
    for backend in BACKENDS:
        got = Explainer(done.path, backend, detections=ALL).explain(x.numpy(), "hires-cam")
        for i in range(3):
            assert len(got.detections[i]) > 1
            for one in got.detections[i]:
                assert one.index == classes[i, one.row]
                np.testing.assert_allclose(one.score, scores[i, one.row], rtol=1e-4)
                np.testing.assert_allclose(one.box, boxes[i, one.row], rtol=1e-3, atol=1e-2)
            assert got.detections[i][0].row == scores[i].argmax()


def test_the_score_of_a_row_is_explained(tmp_path: Path) -> None:
    """LayerCAM of the two best boxes: the gradient of its score by autograd on the live network, relu(g) * A."""
    torch.manual_seed(3)
    network = RtDetr()
    done = exported(saved(network, tmp_path), roles=("gradient",))
    x = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    kept: list[torch.Tensor] = []
    network.body.coarse.register_forward_hook(lambda _m, _i, out: kept.append(out))
    scores = network(x, *network.sizes)[2][0]
    explainers = [Explainer(done.path, backend, detections=ALL) for backend in BACKENDS]
    lit = 0
    for number in range(2):
        row = explainers[0].explain(x.numpy(), "layer-cam", f"box {number}").rows[0][0]
        [gradient] = torch.autograd.grad(scores[row], kept, retain_graph=True)
        terms = (gradient.relu() * kept[0]).detach().numpy()
        for explainer in explainers:
            got = explainer.explain(x.numpy(), "layer-cam", f"box {number}")
            assert got.rows[0] == (row,)
            np.testing.assert_allclose(got.raw, np.maximum(terms.sum(1), 0), atol=1e-4 * np.abs(terms).max())
            lit += bool(got.raw.any())
    assert lit


def test_a_size_that_the_user_gives(tmp_path: Path) -> None:
    """Nothing is built in for an input that the user names."""
    torch.manual_seed(3)
    source = saved(RtDetr(), tmp_path)
    np.save(tmp_path / "size.npy", np.array([[10 * WIDTH, HEIGHT]]))
    done = exported(source, input=(f"orig_target_sizes={tmp_path / 'size.npy'}",), roles=("gradient",))
    assert not any("orig_target_sizes" in note for note in done.notes)
    x = np.random.default_rng(2).random((1, 3, HEIGHT, WIDTH), np.float32)
    boxes, _, _ = of_source(source, {"images": x, "orig_target_sizes": np.array([[10 * WIDTH, HEIGHT]])})
    [found] = Explainer(done.path, detections=ALL).explain(x, "hires-cam").detections
    np.testing.assert_allclose(found[0].box, boxes[0, found[0].row], rtol=1e-3, atol=1e-2)


def test_numbers_that_are_no_classes(tmp_path: Path) -> None:
    """Two lists of probabilities beside the boxes: which is which nothing tells."""

    class Twice(Every):
        def forward(self, x: torch.Tensor) -> Any:
            boxes, best, _ = super().forward(x)
            return boxes, best, best / 2

    torch.manual_seed(3)
    with pytest.raises(RequestError, match=r"several outputs; choose one with --output: .*those of no detector"):
        exported(saved(Twice(), tmp_path))
