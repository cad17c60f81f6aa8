"""Weights once: graphs in parts are the same files byte for byte, and no weight of theirs lies in a bundle twice."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from onnx import numpy_helper
from xai_exporters import Export, cli
from xai_exporters.bundle import shared
from xai_exporters.bundle.stage import Draft

from xai_deploy import Bundle, Explainer
from xai_deploy.errors import IntegrityError
from xai_deploy.format.signature import TrustedKey

from .. import onnx_nets as o
from ..running import export_onnx

METHODS = ("grad-cam", "relevance-cam", "gradient", "guided-backprop", "lrp", "reciprocam")
ROLES = {"input_gradient": True, "guided": True, "pixel_relevance": True, "fuse": ("grad-cam",)}


def network(classes: int = 300) -> onnx.ModelProto:
    """A classifier with more than 1 MiB of weights on both sides of the cut."""
    b = o.Build()
    x = b("Relu", b.conv("image", 3, 64, strides=[2, 2]))
    layer = b("Relu", b.conv(x, 64, 1024, strides=[2, 2]), name="layer")
    return b.model(
        b("Gemm", b.pooled(layer), b.draw(1024, classes), b.draw(classes), out="logits"), shape=("N", 3, 8, 8)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Export, Export]:
    """The bundle with weights once, and the one of whole graphs."""
    folders = tmp_path_factory.mktemp("once"), tmp_path_factory.mktemp("whole")
    once = export_onnx(folders[0], network(), **ROLES)
    return once, export_onnx(folders[1], network(), whole_graphs=True, **ROLES)


def test_same_graphs(made: tuple[Export, Export]) -> None:
    once, whole = (Bundle.open(done.path) for done in made)
    assert whole.manifest.requires == ()
    assert once.manifest.requires == ("parts",)
    assert once.manifest.network == whole.manifest.network
    assert list(once.manifest.graphs) == list(whole.manifest.graphs)
    for role in whole.manifest.graphs:
        assert once.graph(role) == (whole.path / f"{role}.onnx").read_bytes()
    files = {path.name for path in once.path.iterdir()}
    assert files >= {"head.onnx", "tail.onnx", "fused-grad-cam.onnx"}
    assert files >= {f"{role}.parts" for role in ("gradient", "relevance", "input-gradient", "guided-gradient")}
    assert not files & {f"{role}.onnx" for role in ("gradient", "relevance", "input-gradient", "guided-gradient")}


def test_weights_lie_there_once(made: tuple[Export, Export]) -> None:
    """But in fused graphs, which are files of their own; counted by looking for each weight's bytes in all files."""
    once, whole = made
    contents = {path.name: path.read_bytes() for path in once.path.iterdir() if not path.name.startswith("fused")}
    seen: Counter[str] = Counter()
    for role in ("head", "tail", "gradient", "input-gradient", "pixel-relevance"):
        model = onnx.load(whole.path / f"{role}.onnx")
        for tensor in model.graph.initializer:
            data = numpy_helper.to_array(tensor).tobytes()
            if len(data) >= 4096:
                seen[role] += 1
                assert sum(other.count(data) for other in contents.values()) == 1, (role, tensor.name)
    assert seen.keys() == {"head", "tail", "gradient", "input-gradient", "pixel-relevance"}
    assert once.size < 0.6 * whole.size


def test_fused_and_parts_run_by_themselves(made: tuple[Export, Export]) -> None:
    for name in ("head", "tail", "fused-grad-cam"):
        onnx.checker.check_model(onnx.load(made[0].path / f"{name}.onnx"), full_check=True)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("count", [1, 3])
def test_same_maps(made: tuple[Export, Export], backend: str, count: int) -> None:
    x = np.random.default_rng(count).random((count, 3, 8, 8)).astype(np.float32)
    once, whole = (Explainer(done.path, backend, threads=1) for done in made)
    for method in METHODS:
        got, want = once.explain(x, method).raw, whole.explain(x, method).raw
        assert want.any(), method
        assert np.array_equal(got, want), method


def test_same_bytes_twice(made: tuple[Export, Export], tmp_path: Path) -> None:
    again = export_onnx(tmp_path, network(), **ROLES)
    for path in made[0].path.iterdir():
        assert path.read_bytes() == (again.path / path.name).read_bytes()


def test_put_together_as_documented(made: tuple[Export, Export]) -> None:
    """What docs/guides/bundle.md tells programs in other languages, written out again."""
    once, whole = made
    data = (once.path / "pixel-relevance.parts").read_bytes()
    head, own = data.split(b"\n\n", 1)
    graph = b""
    for line in head.split(b"\n"):
        count, file, start, length = line.split(b" ")
        graph += own[: int(count)] + (once.path / file.decode()).read_bytes()[int(start) : int(start) + int(length)]
        own = own[int(count) :]
    assert graph + own == (whole.path / "pixel-relevance.onnx").read_bytes()


def test_small_savings_are_left(tmp_path: Path) -> None:
    """A graph that would save less than 1 MiB stays an ONNX file."""
    done = export_onnx(tmp_path, network(classes=20), input_gradient=True)
    files = {path.name for path in done.path.iterdir()}
    assert {"gradient.onnx", "relevance.onnx", "input-gradient.parts"} <= files
    assert done.manifest.requires == ("parts",)


def test_own_weights_serve_later_graphs(
    made: tuple[Export, Export], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that head and tail do not hold lies in the first graph that has it, also if that is in parts itself; and a weight
    that a graph holds twice is taken from there once."""
    monkeypatch.setattr(shared, "_WORTHWHILE", 1)
    shutil.copytree(made[1].path, tmp_path / "net.xai")
    manifest = Bundle.open(tmp_path / "net.xai").manifest
    mine = np.random.default_rng(1).random(4000).astype(np.float32)
    draft = Draft(tmp_path / "net.xai", tmp_path / "net.xai")
    draft.files = dict(manifest.files)
    wanted = {}
    for role in ("gradient", "relevance"):
        model = onnx.load(made[1].path / f"{role}.onnx")
        model.graph.initializer.extend(numpy_helper.from_array(mine, f"mine-{i}") for i in range(2))
        wanted[role] = model.SerializeToString()
        draft.write(f"{role}.onnx", wanted[role])
    after = shared.share_weights(manifest, draft)
    assert after.graphs["relevance"].whole is not None
    lines = (tmp_path / "net.xai" / "relevance.parts").read_bytes().split(b"\n\n")[0].split(b"\n")
    assert [line.split(b" ")[1] for line in lines].count(b"gradient.parts") == 1
    assert all(b"fused" not in line for line in lines)
    bundle = Bundle(tmp_path / "net.xai", after.__class__(**{**after.__dict__, "files": draft.files}))
    for role, data in wanted.items():
        whole = bundle.manifest.graphs[role].whole
        assert whole is not None
        assert bundle._join(bundle.manifest.graphs[role], whole) == data


def test_command(tmp_path: Path) -> None:
    """Also signed: the signature covers the lists, and what they take weights from."""
    onnx.save(network(), tmp_path / "net.onnx")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(private)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(public)
    common = [str(tmp_path / "net.onnx"), "--preprocess", "none", "-q"]
    once, whole = tmp_path / "once.xai", tmp_path / "whole.xai"
    assert cli.main([*common, "-o", str(once), "--sign", str(tmp_path / "key.pem")]) == 0
    assert cli.main([*common, "-o", str(whole), "--whole-graphs"]) == 0
    assert not list(whole.glob("*.parts"))
    trusted = TrustedKey(tmp_path / "key.pub")
    assert Bundle.open(once, trusted).graph("gradient") == (whole / "gradient.onnx").read_bytes()
    signed = json.loads(
        base64.b64decode(json.loads((tmp_path / "once.xai.sig").read_bytes())["dsseEnvelope"]["payload"])
    )
    assert {"gradient.parts", "tail.onnx"} <= {entry["name"] for entry in signed["predicate"]["resources"]}
    data = bytearray((once / "gradient.parts").read_bytes())
    data[0] ^= 1
    (once / "gradient.parts").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"gradient\.parts: changed since the bundle was written"):
        Bundle.open(once, trusted)
