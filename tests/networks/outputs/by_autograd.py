"""Each kind of network beside autograd on the live torch network: the engine's maps and the fused file's, on both runtimes.

    scripts/check_outputs --autograd

The weights are random. A difference of raw maps is a share of the map's largest value; a fused map lies in 0 to 1 itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from xai_exporters import Request, export

from xai_deploy import Explainer, Like, Region
from xai_deploy.preprocess import Prepared

from ...exporters.nets import randomise
from ...exporters.running import both_ways
from ..inputs import nets as of_inputs
from ..oracle import calibrate
from ..oracle import randomise as with_statistics
from ..volumes import video
from .nets import SIZE, Embedding, UNet, fused
from .test_segmenters import MADE, Scores

RUNTIMES = ("onnxruntime", "openvino")
METHODS = ("grad-cam", "hires-cam", "layer-cam")
Box = tuple[int, int, int, int]
"""x, y, width, height."""
REFERENCE = np.array([0.5, -1, 2, 0.3, -0.7, 1.1], np.float32)
VECTORS = np.random.default_rng(2).standard_normal((4, 6)).astype(np.float32)


@dataclass(frozen=True)
class Kind:
    """A network and what is explained of it.

    Attributes:
        made: Makes the network.
        layer: The module at which it is cut.
        target: What the engine is asked.
        score: The network's output -> the number explained of each image.
        asked: What the fused graph is asked, beside the image.
        shape: One image.
        request: Further fields of the request.
        beside: Further inputs.
    """

    made: Callable[[], Any]
    layer: str
    target: Any
    score: Callable[[Tensor], Tensor]
    asked: dict[str, NDArray[Any]]
    shape: tuple[int, ...] = (3, *SIZE)
    request: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, NDArray[Any]] = field(default_factory=dict)


def _dense(made: Callable[[], Any], layer: str, class_: int, box: Box, shape: tuple[int, ...] = (3, *SIZE)) -> Kind:
    """A segmenter, and a class in a box."""
    x, y, width, height = box
    where = np.zeros((1, *shape[1:]), np.float32)
    where[:, y : y + height, x : x + width] = 1

    def score(out: Tensor) -> Tensor:
        return out[:, class_, y : y + height, x : x + width].mean((1, 2))

    return Kind(made, layer, Region(class_, box), score, {"target": np.array([class_]), "where": where}, shape)


def _segmenter(name: str) -> Any:
    torch.manual_seed(0)
    network = Scores(with_statistics(MADE[name][0]())).eval()
    with torch.no_grad():
        calibrate(network, torch.rand(3, 3, 65, 97, generator=torch.Generator().manual_seed(2)))
    return network


def _fusion() -> Any:
    torch.manual_seed(7)
    return of_inputs.Fusion().eval()


def kinds(folder: Path) -> dict[str, Kind]:
    """The networks, by what is printed of them."""
    np.save(folder / "vectors.npy", VECTORS)
    texts = functional.normalize(torch.from_numpy(VECTORS).double(), dim=1)
    reference = functional.normalize(torch.from_numpy(REFERENCE).double(), dim=0)
    depth = np.random.default_rng(3).random((1, 1, *of_inputs.SIZE)).astype(np.float32)

    def seeded(made: Callable[[], nn.Module]) -> Callable[[], Any]:
        return lambda: randomise(made(), 3)

    dense = {
        f"U-Net, {up}": _dense(seeded(partial(UNet, up)), "middle", 2, (5, 4, 17, 12))
        for up in ("transposed", "bilinear")
    }
    dense |= {
        f"torchvision's {name}": _dense(partial(_segmenter, name), f"network.{layer}", 7, (20, 11, 51, 29), (3, 65, 97))
        for name, (_, layer) in MADE.items()
    }
    return {
        **dense,
        "regression head": Kind(
            seeded(Embedding), "second", "#1", lambda out: out[:, 1], {"target": np.array([1])}, request={"task": "numbers"}
        ),
        "embedding, cosine": Kind(
            seeded(partial(Embedding, True)), "second", Like(REFERENCE), lambda out: out @ reference,
            {"reference": REFERENCE[None]}, request={"task": "embedding"},
        ),
        "encoder and four texts": Kind(
            seeded(Embedding), "second", 3, lambda out: 30 * functional.normalize(out, dim=1) @ texts[3],
            {"target": np.array([3])}, request={"classes": folder / "vectors.npy", "logit_scale": 30.0},
        ),
        "two images, RGB and depth": Kind(
            _fusion, "joint", 2, lambda out: out[:, 2], {"target": np.array([2]), "depth": depth}, (3, *of_inputs.SIZE),
            {"input_image": ("depth:preprocess=unit:color=GRAY",)}, {"depth": depth},
        ),
        "r3d_18, 8 x 56 x 56": Kind(
            lambda: video.made("r3d_18", (8, 56, 56)), "layer4", 5, lambda out: out[:, 5], {"target": np.array([5])}, (3, 8, 56, 56)
        ),
    }  # fmt: skip


def maps(network: Any, kind: Kind, x: Tensor) -> dict[str, NDArray[Any]]:
    """The maps of the live network, by their formulas in float64."""
    kept: list[Tensor] = []
    hook = network.get_submodule(kind.layer).register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    number = kind.score(
        network(x.double().requires_grad_(), *(torch.from_numpy(v).double() for v in kind.beside.values()))
    )
    hook.remove()
    [g], a = torch.autograd.grad(number.sum(), kept), kept[0].detach()
    weights = g.mean(tuple(range(2, g.ndim)), keepdim=True)
    found = {"grad-cam": weights * a, "hires-cam": g * a, "layer-cam": torch.relu(g) * a}
    return {name: torch.relu(values.sum(1)).numpy() for name, values in found.items()}


def rows(name: str, kind: Kind, folder: Path) -> Iterator[str]:
    """A row for each runtime."""
    network, source = kind.made(), folder / "net.onnx"
    if kind.beside:
        examples = (
            torch.rand(2, *kind.shape),
            *(torch.from_numpy(v).expand(2, -1, -1, -1) for v in kind.beside.values()),
        )
        of_inputs.saved(network, source, examples, ("rgb", *kind.beside))
    else:
        onnx.save(both_ways(network, False, kind.shape), source)
    request = Request(
        source, kind.layer, folder / "net.xai", preprocess="unit", fuse=METHODS, overwrite=True, **kind.request
    )
    done = export(request)
    x = np.random.default_rng(1).random((1, *kind.shape)).astype(np.float32)
    want = maps(network.double(), kind, torch.from_numpy(x))
    assert all(np.ptp(values) > 0 for values in want.values()), f"{name}: a map is the same everywhere"
    for runtime in RUNTIMES:
        explainer, live, files = Explainer(done.path, runtime), [], []
        for method, values in want.items():
            given: Any = {"inputs": {n: Prepared(v) for n, v in kind.beside.items()}} if kind.beside else {}
            got = explainer.explain(Prepared(x), method, kind.target, **given).raw
            live.append(np.abs(got - values).max() / values.max())
            feeds = {done.manifest.input.name: x, **kind.asked}
            scaled = (values - values.min()) / np.ptp(values)
            files.append(np.abs(fused(done.path / f"fused-{method}.onnx", feeds, runtime) - scaled).max())
        shown = " | ".join("/".join(f"{one:.0e}" for one in some) for some in (live, files))
        yield f"| {name} | {runtime} | {shown} | {max(*live, *files):.1e} |"


def table() -> Iterator[str]:
    """The rows of all networks."""
    yield f"| network | runtime | {', '.join(METHODS)} by the engine | by the fused files | largest |"
    yield "|-|-|-|-|-|"
    with tempfile.TemporaryDirectory() as scratch:
        for name, kind in kinds(Path(scratch)).items():
            yield from rows(name, kind, Path(scratch))
