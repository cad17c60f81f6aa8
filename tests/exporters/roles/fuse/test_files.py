"""Fused files as others meet them: portable, self-contained, small, the same each time, and saying what they are."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from xai_exporters import Request, export
from xai_exporters.roles.fuse.fused_method import fused, parse
from xai_exporters.roles.fuse.graph import Form, notes

from tests.exporters import onnx_nets as o
from tests.exporters.running import export_onnx
from xai_deploy import Explainer
from xai_deploy.format.bundle import Bundle, fused_method
from xai_deploy.methods import create

from .harness import IMAGES, METHODS, Fused, fuse_onnx
from .networks import POOLED, network

NOT_CAM = tuple(name for name in METHODS if name != "cam")
FORMS = {"fixed_target": True, "map_size": "input", "uint8": True, "embed_preprocess": True}


@pytest.fixture(scope="module", params=[{}, FORMS], ids=["plain", "all forms"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fused:
    """Every method, and ReciproCAM's three forms."""
    return fuse_onnx(
        tmp_path_factory.mktemp("files"), o.classifier(), *METHODS, "reciprocam:score=softmax", **request.param
    )


def models(case: Fused) -> list[onnx.ModelProto]:
    return [onnx.load_from_string(data) for data in case.files.values()]


def test_standard_operators_alone(case: Fused) -> None:
    for model in models(case):
        assert [(imported.domain, imported.version) for imported in model.opset_import] == [("", 18)]
        assert not model.functions
        assert model.ir_version == 10
        for node in model.graph.node:
            assert node.domain == ""
            assert node.op_type not in ("Loop", "If", "Scan", "Resize", "OneHot")
            assert not any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)


def test_checked_with_its_shapes(case: Fused) -> None:
    for model in models(case):
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        for value in (*inferred.graph.input, *inferred.graph.output):
            assert value.type.tensor_type.shape.dim[0].dim_param == "N"


def test_self_contained_and_clean(case: Fused, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weight outside, none that nobody reads, none twice, no node twice; nothing of this machine."""
    for (asked, data), model in zip(case.files.items(), models(case), strict=True):
        graph = model.graph
        assert not any(tensor.external_data for tensor in graph.initializer)
        read = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
        assert {tensor.name for tensor in graph.initializer} <= read, asked
        names = Counter(name for node in graph.node for name in node.output)
        assert max(names.values()) == 1
        assert len({node.name for node in graph.node}) == len(graph.node)
        contents = Counter(
            (t.data_type, tuple(t.dims), numpy_helper.to_array(t).tobytes())
            for t in graph.initializer
            if np.prod(t.dims) > 20
        )
        assert not contents or max(contents.values()) == 1, asked
        for told in (str(tmp_path_factory.getbasetemp()), "/home", "site-packages", ".py"):
            assert told.encode() not in data
        assert not graph.doc_string
        assert not any(node.doc_string or node.metadata_props for node in graph.node)


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    asked = ("reciprocam:score=softmax", "grad-cam")
    done = fuse_onnx(tmp_path, o.classifier(), *asked, split="auto")
    told = {text: {p.key: p.value for p in onnx.load_from_string(done.files[text]).metadata_props} for text in asked}
    first = told["reciprocam:score=softmax"]
    assert first["xai_method"] == "reciprocam"
    assert json.loads(first["xai_options"]) == {"score": "softmax", "mask": "pixel"}
    assert first["xai_target"] == "input"
    assert (first["xai_layer"], first["xai_tensor"]) == ("auto", "layer_out")  # what was asked for, and what it is
    assert json.loads(told["grad-cam"]["xai_options"]) == {}
    formed = fuse_onnx(tmp_path, o.classifier(), "grad-cam", **FORMS)
    second = {p.key: p.value for p in onnx.load_from_string(formed.files["grad-cam"]).metadata_props}
    assert second["xai_method"] == "grad-cam"
    assert second["xai_target"] == "predicted"


CHOICES = {"channels": ("sum", "max-abs", "sum-abs"), "relu": ("true", "false")}


@pytest.mark.parametrize("name", METHODS)
def test_sign_and_place_are_those_of_the_runtime(name: str) -> None:
    """Of the method, with every option that matters, and of its file."""
    fields = [field for field in CHOICES if field in fused.get(name).__dataclass_fields__]  # type: ignore[union-attr]
    for values in itertools.product(*(CHOICES[field] for field in fields)):
        options = dict(zip(fields, values, strict=True))
        [wanted] = parse(
            [f"{name}:" + ",".join(f"{key}={value}" for key, value in options.items()) if options else name]
        )
        runtime = create(name, options)
        assert (wanted.method.signed, wanted.method.at_pixels) == (runtime.signed(False), runtime.at_pixels), options
        said = notes(wanted, Form(), "auto")
        yes = {True: "yes", False: "no"}
        assert (said["xai_signed"], said["xai_at_pixels"]) == (yes[runtime.signed(False)], yes[runtime.at_pixels])


def test_a_composites_file_is_told_by_its_name(tmp_path: Path) -> None:
    """Its path is this machine's business."""
    rules = tmp_path / "mine.toml"
    rules.write_text('base = "epsilon-plus"\n', encoding="utf-8")
    [data] = fuse_onnx(tmp_path, o.classifier(), f"relevance-cam:composite={rules}").files.values()
    assert str(tmp_path).encode() not in data
    assert b"mine" in data


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    files = []
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        files.append(fuse_onnx(tmp_path / name, network(POOLED["hidden layer, ReLU"]), *NOT_CAM, **FORMS).files)
    assert files[0] == files[1]


def test_alone_and_together_are_the_same(tmp_path: Path) -> None:
    """No graph changes what the next one is made from, nor the bundle's other files."""
    together = export_onnx(tmp_path, o.classifier(), fuse=METHODS)
    bundle = Bundle.open(together.path)
    alone = {name: export_onnx(tmp_path, o.classifier(), fuse=(name,), overwrite=True) for name in ("lrp", "score-cam")}
    for name, done in alone.items():
        record = done.manifest.files[f"fused-{name}.onnx"]
        assert record == bundle.manifest.files[f"fused-{name}.onnx"]
    plain = export_onnx(tmp_path, o.classifier(), overwrite=True).manifest
    assert plain.files.items() <= bundle.manifest.files.items()


def test_roles(tmp_path: Path) -> None:
    """In the manifest, with what they start from; the engine opens such a bundle, and offers what it did."""
    done = export_onnx(tmp_path, o.classifier(), fuse=METHODS)
    roles = [role for role in done.manifest.graphs if fused_method(role) is not None]
    assert roles == [f"fused-{name}" for name in METHODS]
    for role in roles:
        assert done.manifest.graphs[role].start == "image"
        assert done.manifest.graphs[role].opset == 18
        assert role not in done.manifest.composites
    assert (done.path / "fused-grad-cam++.onnx").is_file()
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 20)).astype(np.float32)
    before = Explainer(export_onnx(tmp_path, o.classifier(), overwrite=True).path).explain(x, "relevance-cam")
    with_fused = Explainer(export_onnx(tmp_path, o.classifier(), overwrite=True, fuse=METHODS).path)
    np.testing.assert_array_equal(with_fused.explain(x, "relevance-cam").raw, before.raw)
    with pytest.raises(Exception, match="no 'input-gradient' graph"):
        with_fused.explain(x, "gradient")


def test_only_what_roles_and_fuse_ask_for(tmp_path: Path) -> None:
    done = export_onnx(tmp_path, o.classifier(), roles=("head", "tail"), fuse=("grad-cam",))
    assert list(done.manifest.graphs) == ["head", "tail", "fused-grad-cam"]


def test_size(tmp_path: Path) -> None:
    """Weights are stored once: at most 2 % above the source, whatever the method, for a network of some size."""
    b = o.Build()
    x = b("Relu", b.conv("image", 3, 48, strides=[2, 2]))
    x = b("Relu", b.conv(x, 48, 320, 1, strides=[2, 2]))
    x = b("Relu", b.conv(x, 320, 256, 3))
    x = b("Relu", b.conv(x, 256, 64, 3), name="layer")
    model = b.model(b("Gemm", b.pooled(x), b.draw(64, 2000), b.draw(2000), out="scores"))
    onnx.save(model, tmp_path / "net.onnx")
    size = (tmp_path / "net.onnx").stat().st_size
    assert 3e6 < size < 5e6
    request = Request(
        tmp_path / "net.onnx",
        split="layer",
        output_path=tmp_path / "net.xai",
        fuse=METHODS,
        roles=("head", "tail"),
        preprocess_fields=IMAGES,
    )
    files = export(request).manifest.files
    for name in METHODS:
        assert size * 0.99 < files[f"fused-{name}.onnx"].size < size * 1.02, name


def test_one_file_per_method() -> None:
    modules = {type_.__module__ for name in METHODS if (type_ := fused.get(name)) is not None}
    assert len(modules) == len(METHODS)
