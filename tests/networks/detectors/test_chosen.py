"""Rows that TopK chose among equals: explained as what they are, whatever order a runtime gives them."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from xai_exporters import Request, export
from xai_exporters.bundle.beside import noise_images
from xai_exporters.bundle.chosen import other_choice, pinned, pinned_fused, worst_choice
from xai_exporters.bundle.everywhere import check_everywhere
from xai_exporters.cut.chosen import give
from xai_exporters.graph.writing import make_model, to_bytes

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import NotApplicableError

from ...exporters.running import both_ways
from . import nets
from .conftest import ALL, Made


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The detector, exported with a gradient at the image, too."""
    folder = tmp_path_factory.mktemp("queries")
    torch.manual_seed(1)
    network = nets.Queries().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    x = torch.rand(3, 3, *nets.SIZE, generator=torch.Generator().manual_seed(2))
    onnx.save(both_ways(network, False, (3, *nets.SIZE)), folder / "net.onnx")
    request = Request(
        folder / "net.onnx",
        output_path=folder / "net.xai",
        preprocess="none",
        decoder="detr-sigmoid",
        input_gradient=True,
    )
    done = export(request)
    limits = dataclasses.replace(ALL, overlap=1.0)
    explainers = tuple(Explainer(done.path, backend, detections=limits) for backend in ("onnxruntime", "openvino"))
    return Made("queries", network.double(), x.double(), done.path, folder / "net.onnx", explainers)


def chosen_by(own: Made, found: tuple) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[type-arg]
    """Of each image the positions that the product's rows stand at [n,6], and the class of each row [n,6]: read from the boxes."""
    places, classes = [], []
    for detections in found:
        by_row = sorted(detections, key=lambda one: one.row)
        centres = np.array([[(d.box[0] + d.box[2]) / 192, (d.box[1] + d.box[3]) / 128] for d in by_row])
        apart = np.abs(centres[:, None] - own.network.centres.numpy()[None]).max(axis=2)
        assert (apart.min(axis=1) < 0.021).all()
        places.append(apart.argmin(axis=1))
        classes.append([d.index for d in by_row])
    return torch.from_numpy(np.stack(places)), torch.tensor(classes)


def test_many_are_equal(own: Made) -> None:
    """So that the order is undecided, and other inputs have others: what the tests below rely on."""
    ranks = own.network.ranks(own.network.tokens(own.x))
    best = ranks.sort(1, descending=True).values
    assert bool((best[:, 1:7] == best[:, :6]).any())
    dark = own.network.ranks(own.network.tokens(own.x * 0.3)).topk(6, 1).indices.sort(1).values
    assert not bool((dark == ranks.topk(6, 1).indices.sort(1).values).all())


@pytest.mark.parametrize("images", [1, 3])
def test_maps(own: Made, images: int) -> None:
    for explainer, (target, sign) in itertools.product(own.explainers, (("box 2", 1), ("not box 2", -1))):
        got = explainer.explain(own.images[:images], "hires-cam", target)
        places, classes = chosen_by(own, got.detections)
        tokens = own.network.tokens(own.x[:images]).detach().requires_grad_()
        logits, _ = own.network.of(tokens, places)
        every, row = torch.arange(images), torch.tensor(got.rows)[:, 0]
        score = sign * logits[every, row, classes[every, row]]
        np.testing.assert_allclose(got.score, score.detach(), rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]
        [g] = torch.autograd.grad(score.sum(), [tokens])
        terms = (g * tokens).detach().numpy()
        wanted = np.maximum(terms.sum(2), 0).reshape(images, 4, 6)
        np.testing.assert_allclose(got.raw, wanted, atol=1e-4 * np.abs(terms).max())
    assert wanted.any()  # what speaks against a detection


def test_a_row_stays_what_it_is(own: Made) -> None:
    """In noisy copies TopK chooses other positions, and integrated gradients start at black: the row is that of the image."""
    for explainer in own.explainers:
        got = explainer.explain(own.images, "integrated-gradients", "box 1", steps=8, channels="sum")
        places, classes = chosen_by(own, got.detections)
        every, row = torch.arange(3), torch.tensor(got.rows)[:, 0]

        def score(x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = own.network.of(own.network.tokens(x), places)[0]  # noqa: B023
            return logits[every, row, classes[every, row]]  # noqa: B023

        total = torch.zeros_like(own.x)
        nodes, weights = np.polynomial.legendre.leggauss(8)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            x = (own.x * node).requires_grad_()
            total += weight * torch.autograd.grad(score(x).sum(), [x])[0]
        wanted = (total * own.x).sum(1).numpy()
        apart = np.abs(np.asarray(got.raw) - wanted).max() / np.abs(wanted).max()
        assert apart < 2e-4, apart


def test_the_logit_of_masked_runs(own: Made) -> None:
    with pytest.raises(
        NotApplicableError, match=r"chooses its rows anew in each run \(TopK\).*score='probability' looks"
    ):
        own.explainers[0].explain(own.images[:1], "reciprocam", "box 0")


def tail() -> ir.Graph:
    """x [N,5] -> the three largest; and their places."""
    text = """<ir_version: 10, opset_import: ["" : 18]>
    g (float[N,5] activation) => (float[N,3] values) <int64[1] k = {3}>
    { values, places = TopK(activation, k) }"""
    graph = ir.from_proto(onnx.parser.parse_model(text)).graph
    give(graph, {"places": (2, 3)}, "N", ["places"])
    return graph


@pytest.mark.parametrize(
    ("places", "apart"),
    [([0, 1, 2], 0.0), ([2, 1, 0], 0.0), ([0, 1, 3], 0.25), ([4, 1, 2], 2.0)],
    ids=["own", "among equals", "one lower", "the lowest"],
)
def test_choices_are_as_good_as_ones_own(places: list[int], apart: float) -> None:
    x = np.array([[4, 4, 4, 3, -4]], np.float32)
    session = onnxruntime.InferenceSession(pinned(to_bytes(make_model(tail()))))
    names = [output.name for output in session.get_outputs()]
    given = {"activation": x, "choice/places": np.array([places], np.int64)}
    results = dict(zip(names, session.run(None, given), strict=True))
    np.testing.assert_array_equal(results["values"], x[:, places])
    assert worst_choice(results) == apart


@pytest.fixture(scope="module")
def fused(own: Made, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The detector with a fused graph, which chooses by itself."""
    path = tmp_path_factory.mktemp("fused") / "net.xai"
    options = {"preprocess": "none", "decoder": "detr-sigmoid", "roles": ("gradient",), "fuse": ("layer-cam",)}
    return Bundle.open(export(Request(own.source, output_path=path, **options)).path)  # type: ignore[arg-type]


def test_a_fused_graph_is_compared_with_the_same_choice(fused: Bundle) -> None:
    """With the tail's places it gives the tail's outputs, and it says when its own choice is better than the one it was given."""
    manifest, x = fused.manifest, noise_images(fused.manifest.input, 3)
    run = {role: onnxruntime.InferenceSession(fused.graph(role)).run for role in ("head", "tail")}
    between = dict(zip([p.name for p in manifest.graphs["head"].gives], run["head"](None, {"image": x}), strict=True))
    taken = {p.name: between.get(p.name, x) for p in manifest.graphs["tail"].takes if p.name != "where"}
    names = [p.name for p in manifest.graphs["tail"].gives]
    tail = dict(zip(names, run["tail"](None, {**taken, "where": np.full((3, 1, 6), 1 / 6, np.float32)}), strict=True))
    pins = pinned_fused(fused.graph("fused-layer-cam"), manifest)
    assert pins is not None
    session = onnxruntime.InferenceSession(pins)
    asked = {"image": x, "target": np.full(3, -1), "row": np.zeros(3, np.int64)}
    [name] = [name for name in tail if name.startswith("choice/")]
    places = tail[name]
    for order, good in ((places, True), (places[:, ::-1], False), ((places + 1) % 24, False)):
        given = {**asked, name: np.ascontiguousarray(order)}
        results = dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))
        assert (other_choice(results) is None) is good
        if good:
            for output in manifest.outputs:
                np.testing.assert_allclose(results[output.name], tail[output.tensor], rtol=1e-4, atol=1e-5)


def changed(model: onnx.ModelProto, operator: str, name: str, weight: NDArray[np.float32]) -> None:
    """Put an operator with a weight behind a tensor: all that read it read the result; an output keeps its name."""
    for node in model.graph.node:
        node.input[:] = [f"{name}/changed" if one == name and node.op_type == "TopK" else one for one in node.input]
    given, result = name, f"{name}/changed"
    if name in [output.name for output in model.graph.output]:
        given, result = f"{name}/right", name
        [node] = [node for node in model.graph.node if name in node.output]
        node.output[list(node.output).index(name)] = given
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, f"{name}/weight"))
    made = onnx.helper.make_node(operator, [given, f"{name}/weight"], [result])
    nodes = list(model.graph.node)
    at = next(i for i, node in enumerate(nodes) if given in node.output)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: at + 1], made, *nodes[at + 1 :]])


def test_the_order_of_equals_is_no_fault_and_other_rows_are(own: Made, fused: Bundle) -> None:
    """Ranks that rounding moves put equal positions in another order: not refused. Boxes that are off by a tenth: refused."""
    manifest, x = fused.manifest, own.images
    contents: dict[str, bytes] = {graph.file: fused.graph(role) for role, graph in manifest.graphs.items()}
    file = manifest.graphs["fused-layer-cam"].file
    model = onnx.load_from_string(contents[file])
    [topk] = [node for node in model.graph.node if node.op_type == "TopK"]
    changed(model, "Add", topk.input[0], np.arange(24, dtype=np.float32) * np.float32(1e-5))
    session = [onnxruntime.InferenceSession(one) for one in (contents[file], model.SerializeToString())]
    asked = {"image": x, "target": np.full(3, -1), "row": np.zeros(3, np.int64)}
    before, after = (one.run(None, asked) for one in session)
    assert np.abs(before[0] - after[0]).max() > 0.01  # rows of other positions
    assert not check_everywhere({**contents, file: model.SerializeToString()}, manifest, x).wrong
    boxes = model.graph.output[1].name
    changed(model, "Mul", boxes, np.full(1, 1.1, np.float32))
    said = check_everywhere({**contents, file: model.SerializeToString()}, manifest, x).wrong["fused-layer-cam"]
    assert f"{boxes!r}: its" in said


def test_what_was_chosen_is_an_output(own: Made, tmp_path: Path) -> None:
    """A file that gives the places and their values itself: they are compared like its other outputs."""
    model = onnx.load(own.source)
    [node] = [node for node in model.graph.node if node.op_type == "TopK"]
    for name, kind in zip(node.output, (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64), strict=True):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, ["N", 6]))
    onnx.save(model, tmp_path / "net.onnx")
    done = export(
        Request(tmp_path / "net.onnx", output_path=tmp_path / "x.xai", preprocess="none", decoder="detr-sigmoid")
    )
    assert done.verified.source < 1e-4
