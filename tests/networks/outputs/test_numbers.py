"""Numbers that are no classes: measured values, embeddings, and classes by their vectors, against autograd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from xai_exporters import Request, export
from xai_exporters.errors import GraphError, RequestError

from xai_deploy import Contrast, Explainer, Like, Not, write_image
from xai_deploy.cli.check import main as check
from xai_deploy.cli.evaluate import main as evaluate
from xai_deploy.cli.explain import main as explain
from xai_deploy.errors import TargetError
from xai_deploy.serve.limits import Limits
from xai_deploy.serve.targets import Targets

from .nets import Embedding, fused, grad_cam, images, saved, stretched

BACKENDS = ["onnxruntime", "openvino"]
IN_ONE_BATCH = ("integrated-gradients:steps=8", "score-cam")
EVERY = {"pixel_relevance": True, "input_gradient": True}
REFERENCE = np.random.default_rng(9).standard_normal(6).astype(np.float32)
VECTORS = np.random.default_rng(8).standard_normal((4, 6)).astype(np.float32)


def unit(y: Tensor) -> Tensor:
    return functional.normalize(y, dim=-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network, exported as numbers, as an embedding (measured, and by its own normalisation), and as a classifier."""
    folder = tmp_path_factory.mktemp("numbers")
    np.save(folder / "vectors.npy", VECTORS)
    (folder / "labels.txt").write_text("ant\nbee\ncat\ndog\n")
    plain, own = saved(Embedding(), folder / "plain.onnx"), saved(Embedding(True), folder / "unit.onnx")
    fuse = ("grad-cam", "reciprocam", "lrp", *IN_ONE_BATCH)
    exports: list[tuple[str, Path, dict[str, Any]]] = [
        ("numbers", plain, {"task": "numbers", "fuse": fuse, **EVERY}),
        ("embedding", plain, {"task": "embedding", "fuse": fuse, **EVERY}),
        ("own", own, {}),
        ("zero-shot", plain, {"classes": folder / "vectors.npy", "labels": folder / "labels.txt", "logit_scale": 30.0}),
    ]
    for name, source, more in exports:
        export(Request(source, output_path=folder / f"{name}.xai", preprocess="none", **more))
    return folder


@pytest.fixture(scope="module")
def network(folder: Path) -> Embedding:
    """The network itself, with the weights of the files."""
    network = Embedding()
    saved(network, folder / "again.onnx")
    return network


@pytest.mark.parametrize("backend", BACKENDS)
def test_values(folder: Path, network: Embedding, backend: str) -> None:
    explainer = Explainer(folder / "numbers.xai", backend)
    activation = network.features(torch.from_numpy(images(3)))
    for target, number in (
        ("#3", lambda a: network.numbers(a)[:, 3]),
        (3, lambda a: network.numbers(a)[:, 3]),
        ("not #2", lambda a: -network.numbers(a)[:, 2]),
        ("#1 vs #4", lambda a: network.numbers(a)[:, 1] - network.numbers(a)[:, 4]),
    ):
        want, score = grad_cam(activation, number)
        got = explainer.explain(images(3), "grad-cam", target)
        np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
        assert got.score is not None
        np.testing.assert_allclose(got.score, score, atol=1e-4)
        assert got.probabilities is None
    up, down = (explainer.explain(images(2), "rise", target, masks=60).raw for target in ("#2", "not #2"))
    np.testing.assert_allclose(down, -up, atol=1e-4 * np.abs(up).max())  # a mean of masks, linear in the number
    assert explainer.explain(images(1), "grad-cam", "not #2").caption() == "not output 2"
    for wrong, said in (
        ("cat", r"^'cat' names none of the network's 6 numbers; name one by its place \('#0' to '#5'\)$"),
        ("1@all", "a region needs scores at each position$"),
        ("#1 vs #1", "^output '#1' is contrasted with itself$"),
    ):
        with pytest.raises(TargetError, match=said):
            explainer.explain(images(1), "grad-cam", wrong)
    with pytest.raises(TargetError, match=r"gives 6 numbers, none of which is a predicted class: name one \('#3'\)$"):
        explainer.explain(images(1))
    with pytest.raises(TargetError, match="no embedding of length 1; export it with --task embedding"):
        explainer.explain(images(1), "grad-cam", Like(REFERENCE))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["embedding", "own"])
def test_similarity(folder: Path, network: Embedding, backend: str, name: str, tmp_path: Path) -> None:
    explainer = Explainer(folder / f"{name}.xai", backend)
    activation, other = network.features(torch.from_numpy(images(3))), 6 - 12 * images(4)[3]
    reference = unit(torch.from_numpy(REFERENCE))
    there = unit(network.numbers(network.features(torch.from_numpy(other[None])))).detach()[0]
    np.save(tmp_path / "vector.npy", 5 * REFERENCE)
    np.save(tmp_path / "there vs.npy", there)
    for target, number in (
        (Like(REFERENCE), lambda a: unit(network.numbers(a)) @ reference),
        (f"like {tmp_path / 'vector.npy'}", lambda a: unit(network.numbers(a)) @ reference),
        (Like(other), lambda a: unit(network.numbers(a)) @ there),
        (Not(Like(REFERENCE)), lambda a: -unit(network.numbers(a)) @ reference),
        (Contrast(Like(REFERENCE), Like(other)), lambda a: unit(network.numbers(a)) @ (reference - there)),
        (f"not like {tmp_path / 'vector.npy'}", lambda a: -unit(network.numbers(a)) @ reference),
        (f"NOT Like {tmp_path / 'vector.npy'}", lambda a: -unit(network.numbers(a)) @ reference),
        (
            f"like {tmp_path / 'there vs.npy'} vs like {tmp_path / 'vector.npy'}",
            lambda a: unit(network.numbers(a)) @ (there - reference),
        ),
    ):
        want, score = grad_cam(activation, number)
        got = explainer.explain(images(3), "grad-cam", target)
        np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
        assert got.score is not None
        np.testing.assert_allclose(got.score, score, atol=1e-4)
    assert explainer.explain(images(1), "grad-cam", f"like {tmp_path / 'vector.npy'}").caption() == "like vector.npy"
    same = explainer.explain(images(1), "reciprocam", Like(images(1)[0]))
    assert same.score is not None
    assert same.score[0] == pytest.approx(1, abs=1e-5)  # the cosine of an image with itself


def test_texts_of_similarity(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands take them, a fused graph takes the difference of two references, and a server takes no file's name."""
    bundle, photos = folder / "embedding.xai", tmp_path / "photos"
    photos.mkdir()
    for i, image in enumerate(np.random.default_rng(2).integers(0, 256, (3, 24, 32, 3)).astype(np.uint8)):
        write_image(photos / f"{i}.png", image)
    a, b = photos / "0.png", tmp_path / "b.npy"
    np.save(b, REFERENCE)
    both, against, explainer = f"like {a} vs like {b}", f"not like {b}", Explainer(bundle)
    for text, target in ((both, Contrast(Like(a), Like(REFERENCE))), (against, Not(Like(REFERENCE)))):
        out = tmp_path / "out"
        command = [
            str(bundle),
            str(photos / "1.png"),
            "-m",
            "grad-cam",
            "-t",
            text,
            "-q",
            "-o",
            str(out),
            "--overwrite",
        ]
        assert explain(command) == 0
        [image] = json.loads((out / "results.json").read_text())["images"]
        want = explainer.explain(photos / "1.png", "grad-cam", target).raw[0]
        np.testing.assert_allclose(np.load(out / image["explanations"][0]["raw"]), want, atol=1e-6)
        assert check(["-m", "grad-cam", "-q", "-t", text, str(bundle), str(bundle), str(photos)]) == 0
        measured = ["--metrics", "average-drop", "-q", "-o", str(tmp_path / "measured"), "--overwrite"]
        assert evaluate([str(bundle), str(photos), "-m", "grad-cam", "-t", text, *measured]) == 0
    x = explainer.prepare(photos / "1.png")
    vector = unit(torch.from_numpy(explainer.explain(a, "grad-cam", Like(a)).logits[0])).numpy()
    difference = vector - REFERENCE / np.linalg.norm(REFERENCE)
    got = fused(bundle / "fused-grad-cam.onnx", {"image": x.x, "reference": difference[None]})
    want = explainer.explain(x, "grad-cam", both).raw
    np.testing.assert_allclose(got, stretched(want), atol=1e-4)
    (tmp_path / "text.npy").write_text("no array")
    for text, said in (
        (f"not {both}", "a contrast is turned round by swapping its sides, not by 'not'"),
        (f"like {a} vs like {a}", "a reference is contrasted with itself"),
        (f"like {a} vs {b}", "two references are compared as 'like A vs like B'"),
        (f"like {tmp_path / 'text.npy'}", "text.npy: not a .npy file; write it with numpy.save"),
        (f"like {a} vs like {tmp_path / 'no.npy'}", "no.npy: no such file"),
    ):
        assert explain([str(bundle), str(photos), "-t", text, "-q", "-o", str(tmp_path / "no")]) == 2
        assert said in capsys.readouterr().err
    served = Targets(explainer, Limits())
    for text in (both, against, f"like {b}"):
        with pytest.raises(TargetError, match="a target sent to a server names no file"):
            served.read(text)
    sent, count = served.read(
        json.dumps({"target": {"like": [1, 0, 0, 0, 0, 2.0]}, "versus": {"like": REFERENCE.tolist()}})
    )
    assert (type(sent), count) == (Contrast, 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_shot(folder: Path, network: Embedding, backend: str) -> None:
    explainer = Explainer(folder / "zero-shot.xai", backend)
    vectors = unit(torch.from_numpy(VECTORS))
    activation = network.features(torch.from_numpy(images(3)))

    def logits(a: Tensor) -> Tensor:
        return 30 * unit(network.numbers(a)) @ vectors.T

    want, _ = grad_cam(activation, lambda a: logits(a)[:, 1])
    got = explainer.explain(images(3), "grad-cam", "bee")
    np.testing.assert_allclose(got.raw, want, atol=1e-4 * want.max())
    shares = logits(activation).softmax(1).detach().numpy()
    assert got.probabilities is not None
    np.testing.assert_allclose(got.probabilities, shares, atol=1e-4)
    assert explainer.explain(images(3), "grad-cam").target.tolist() == shares.argmax(1).tolist()


def test_fused(folder: Path, network: Embedding) -> None:
    """The fused files take the reference, of any length."""
    feeds = {"image": images(3), "reference": np.tile(4 * REFERENCE, (3, 1))}
    reference = unit(torch.from_numpy(REFERENCE))
    activation = network.features(torch.from_numpy(images(3)))
    want, _ = grad_cam(activation, lambda a: unit(network.numbers(a)) @ reference)
    bundle = folder / "embedding.xai"
    np.testing.assert_allclose(fused(bundle / "fused-grad-cam.onnx", feeds), stretched(want), atol=1e-4)
    explainer = Explainer(bundle)
    for method in ("reciprocam", "lrp"):
        own = explainer.explain(images(3), method, Like(REFERENCE)).raw
        np.testing.assert_allclose(fused(bundle / f"fused-{method}.onnx", feeds), stretched(own), atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["grad-cam", "reciprocam", "lrp", "integrated-gradients", "score-cam"])
def test_fused_references(folder: Path, method: str, backend: str) -> None:
    """A reference without a direction gives zeros, in a batch beside others; a direction is one at any size that float32 holds."""
    graph = folder / "embedding.xai" / f"fused-{method}.onnx"
    own = fused(graph, {"image": images(1), "reference": REFERENCE[None]}, backend)
    assert own.any()
    x = np.repeat(images(1), 6, axis=0)
    references = np.tile(REFERENCE, (6, 1))
    references[1] = 0
    references[2, 3], references[3, 3], references[4, :] = np.nan, -np.inf, np.inf
    scaled = references.copy()
    scaled[0], scaled[5] = 1e30 * REFERENCE, 1e-30 * REFERENCE
    for given in (references, scaled):
        got = fused(graph, {"image": x, "reference": given}, backend)
        np.testing.assert_allclose(got[[0, 5]], np.repeat(own, 2, axis=0), atol=1e-3)
        assert not got[1:5].any()


def test_an_embedding_that_is_called_logits(folder: Path, network: Embedding, tmp_path: Path) -> None:
    """The name means something else inside a bundle; the export compared the vector with the cosines."""
    model = onnx.load(folder / "plain.onnx")
    [end] = [node for node in model.graph.node if node.output[0] == model.graph.output[0].name]
    end.output[0] = model.graph.output[0].name = "logits"
    onnx.save(model, tmp_path / "net.onnx")
    given: dict[str, Any] = {"preprocess": "none", "task": "embedding", "fuse": ("grad-cam",)}
    export(Request(tmp_path / "net.onnx", output_path=tmp_path / "net.xai", **given))
    feeds = {"image": images(3), "reference": np.tile(REFERENCE, (3, 1))}
    activation, reference = network.features(torch.from_numpy(images(3))), unit(torch.from_numpy(REFERENCE))
    want, _ = grad_cam(activation, lambda a: unit(network.numbers(a)) @ reference)
    np.testing.assert_allclose(fused(tmp_path / "net.xai" / "fused-grad-cam.onnx", feeds), stretched(want), atol=1e-4)


def test_fused_numbers(folder: Path, network: Embedding) -> None:
    """The target k is output k, -2 - k is the same in its other direction; what is neither gives zeros."""
    x, activation = images(3), network.features(torch.from_numpy(images(3)))
    feeds = {"image": x, "target": np.array([-2 - 2, 3, -2 - 5])}
    signs = torch.tensor([-1.0, 1, -1])
    want, _ = grad_cam(activation, lambda a: signs * network.numbers(a)[range(3), [2, 3, 5]])
    bundle = folder / "numbers.xai"
    np.testing.assert_allclose(fused(bundle / "fused-grad-cam.onnx", feeds), stretched(want), atol=1e-4)
    # each position alone, before a constant: the engine's raw map holds that, and rounds where the positions differ little
    rows = (signs[:, None] * network.last.weight[[2, 3, 5]]).detach()
    alone = torch.einsum("nk,nkhw->nhw", rows, activation.detach()).numpy()
    np.testing.assert_allclose(fused(bundle / "fused-reciprocam.onnx", feeds), stretched(alone), atol=1e-4)
    own = Explainer(bundle).explain(x, "lrp", [Not(2), 3, Not(5)]).raw
    np.testing.assert_allclose(fused(bundle / "fused-lrp.onnx", feeds), stretched(own), atol=1e-4)
    for none in (6, -2 - 6):
        assert not fused(bundle / "fused-grad-cam.onnx", feeds | {"target": np.full(3, none)}).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", IN_ONE_BATCH)
@pytest.mark.parametrize("name", ["numbers", "embedding"])
def test_fused_in_one_batch(folder: Path, backend: str, method: str, name: str) -> None:
    """Copies of each image keep its own number, or reference."""
    x, bundle = images(3), folder / f"{name}.xai"
    references = np.random.default_rng(4).standard_normal((3, 6)).astype(np.float32)
    method, _, steps = method.partition(":steps=")
    targets = [4, 3, 0] if name == "numbers" else [Like(reference) for reference in references]
    own = Explainer(bundle, backend).explain(x, method, targets, **({"steps": int(steps)} if steps else {})).raw
    for part in (slice(0, 1), slice(0, 3)):
        more = {"target": np.array([4, 3, 0])[part]} if name == "numbers" else {"reference": references[part]}
        got = fused(bundle / f"fused-{method}.onnx", {"image": x[part], **more}, backend)
        np.testing.assert_allclose(got, stretched(own[part]), atol=1e-4)
    if name == "numbers" and steps:
        down = Explainer(bundle, backend).explain(x, method, Not(4), steps=int(steps)).raw
        got = fused(bundle / f"fused-{method}.onnx", {"image": x, "target": np.full(3, -2 - 4)}, backend)
        np.testing.assert_allclose(got, stretched(down), atol=1e-4)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.zeros(6, np.float32), "the reference is zero or not finite: it has no direction"),
        (np.ones(5, np.float32), r"the reference is float32 \[5\]; an embedding of this network is floats \[6\]"),
        (np.arange(6), r"the reference is int64 \[6\]; an embedding of this network is floats \[6\]"),
        ("missing.npy", "missing.npy: no such file"),
    ],
    ids=str,
)
def test_bad_references(folder: Path, reference: object, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Explainer(folder / "embedding.xai").explain(images(1), "grad-cam", Like(reference))


@pytest.mark.parametrize(
    ("vectors", "more", "message"),
    [
        (np.ones((4, 5), np.float32), {}, "vectors of 5 numbers; the network's embedding has 6"),
        (
            np.ones((6, 4), np.float32),
            {},
            "vectors of 4 numbers; the network's embedding has 6; it seems to be transposed",
        ),
        (np.eye(4, 6, dtype=np.float32) * [[1], [1], [0], [1]], {}, "the vector of class 2 is zero or not finite"),
        (np.ones((4, 6), np.int64), {}, r"holds int64 \[4, 6\]; give floats \[classes, D\]"),
        (b"(10000000000, 6)", {}, r"announces float32 \(10000000000, 6\), but the file has another size"),
        (b"(True, 6)", {}, "its header is damaged"),
        (b"(-1, -1)", {}, "its header is damaged"),
        (VECTORS, {"logit_scale": 0.0}, "--logit-scale is a number above 0, not 0"),
        (VECTORS, {"task": "numbers"}, "--classes makes the network a classifier; --task numbers is something else"),
        (None, {"logit_scale": 2.0}, "--logit-scale is for --classes, which is not given"),
        (None, {"task": "ages"}, "--task is classes, numbers or embedding, not 'ages'"),
        (
            None,
            {"task": "embedding", "fuse": ("grad-cam",), "fixed_target": True},
            "explains a reference, which is an input",
        ),
        (
            None,
            {"task": "numbers", "fuse": ("grad-cam",), "fixed_target": True},
            "explains a number, which is an input",
        ),
    ],
    ids=str,
)
def test_refused_exports(folder: Path, tmp_path: Path, vectors: object, more: dict[str, object], message: str) -> None:
    if vectors is not None:
        if isinstance(vectors, bytes):  # a shape that the file does not have
            head = b"{'descr': '<f4', 'fortran_order': False, 'shape': %s}\n" % vectors
            length = 4 if vectors == b"(-1, -1)" else 24
            (tmp_path / "v.npy").write_bytes(
                b"\x93NUMPY\x01\0" + len(head).to_bytes(2, "little") + head + bytes(length)
            )
        else:
            np.save(tmp_path / "v.npy", vectors)  # type: ignore[arg-type]
        more = {**more, "classes": tmp_path / "v.npy"}
    request = Request(folder / "plain.onnx", output_path=tmp_path / "x.xai", preprocess="none", **more)  # type: ignore[arg-type]
    with pytest.raises((RequestError, GraphError), match=message):
        export(request)
    assert not (tmp_path / "x.xai").exists()


def test_a_target_of_another_network(folder: Path) -> None:
    explainer = Explainer(folder / "zero-shot.xai")
    with pytest.raises(
        TargetError, match="Like needs a network that gives an embedding; this one gives a score for each class"
    ):
        explainer.explain(images(1), "grad-cam", Like(REFERENCE))
    for text, said in (
        ("like a.png", "no label 'like a.png'.*; images are compared by networks that give an embedding$"),
        ("bee@all", "no label 'bee@all'.*; a region needs scores at each position$"),
        ("not Box 0:left", "no label 'Box 0:left'; boxes are found by detectors$"),
    ):
        with pytest.raises(TargetError, match=said):
            explainer.explain(images(1), "grad-cam", text)
