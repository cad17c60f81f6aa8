"""A bundle appears whole or not at all; the same source gives the same bytes; nothing foreign is in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from xai_exporters import Request, export
from xai_exporters.bundle import places
from xai_exporters.bundle.stage import check_destination
from xai_exporters.errors import GraphError, OutputError
from xai_exporters.graph.writing import make_model, to_bytes

from xai_deploy.format.bundle import MANIFEST, Bundle

from .. import nets
from .. import onnx_nets as o
from ..running import HEAD_AND_TAIL, dynamo_onnx, export_onnx, export_torch, left_behind, onnx_request, torch_request


def contents(bundle: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(bundle.iterdir())}


@pytest.fixture(scope="module")
def torch_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torch source in a folder whose name must not show in the bundle."""
    folder = tmp_path_factory.mktemp("secret-place")
    export_torch(folder, nets.randomise(nets.Residual()), split="layer1.0.conv1")
    return folder / "net.xai"


@pytest.fixture(scope="module")
def plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secret-place")
    model = dynamo_onnx(nets.randomise(nets.Plain()), folder)
    assert b"stack_trace" in model.SerializeToString()
    model.doc_string, model.graph.doc_string, model.graph.node[0].doc_string = "secret", "secret", "secret"
    model.metadata_props.add(key="author", value="secret")
    (folder / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    export_onnx(folder, model, labels=folder / "labels.txt")
    return folder / "net.xai"


@pytest.mark.parametrize("which", ["torch_bundle", "plain_bundle"])
def test_graphs_are_bare_and_valid(which: str, request: pytest.FixtureRequest) -> None:
    bundle = Bundle.open(request.getfixturevalue(which))
    assert set(bundle.manifest.graphs) >= {"head", "tail"}
    for role in bundle.manifest.graphs:
        model = onnx.load_from_string(bundle.graph(role))
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == 10
        assert [i.domain for i in model.opset_import] == [""]
        assert not model.functions
        assert not model.metadata_props
        assert not model.doc_string
        graph = model.graph
        assert not graph.value_info
        assert not graph.metadata_props
        assert not graph.doc_string
        for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
            assert not part.metadata_props
            assert not part.doc_string
        assert all(not t.external_data and t.data_location == 0 for t in graph.initializer)
        assert all(n.name and n.domain == "" for n in graph.node)
        shapes = [
            [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)
        ]
        assert all(shape[0] == "N" and all(isinstance(d, int) and d > 0 for d in shape[1:]) for shape in shapes)


@pytest.mark.parametrize("which", ["torch_bundle", "plain_bundle"])
def test_no_local_path_in_any_file(which: str, request: pytest.FixtureRequest) -> None:
    bundle: Path = request.getfixturevalue(which)
    for name, data in contents(bundle).items():
        for foreign in (str(bundle.parent), "secret", "stack_trace", ".py", os.path.expanduser("~"), "tests"):
            assert foreign.encode() not in data, (name, foreign)


def test_size(torch_bundle: Path, plain_bundle: Path) -> None:
    for bundle, source in ((torch_bundle, "net.pt"), (plain_bundle, "net.onnx")):
        sizes = {name: len(data) for name, data in contents(bundle).items()}
        limit = (bundle.parent / source).stat().st_size + 3 * sizes["tail.onnx"] + (1 << 20)
        assert sum(sizes.values()) <= limit
    heavy = nets.Plain(60_000)  # two thirds of the weights lie behind the cut
    done = export_torch(torch_bundle.parent, heavy, output_path=torch_bundle.parent / "heavy.xai")
    assert done.size <= 5 * 4 * sum(p.numel() for p in heavy.parameters())
    assert done.size == sum(len(v) for k, v in contents(done.path).items() if k != "manifest.json")


@pytest.mark.parametrize("source", ["onnx", "torch"])
def test_twice_the_same_bytes(tmp_path: Path, source: str) -> None:
    """Here, and in processes that hash strings differently."""
    if source == "onnx":
        request = onnx_request(tmp_path, o.residual(), split="layer1.0.conv1")
    else:
        request = torch_request(tmp_path, nets.randomise(nets.Dense()), split="convs.2")
    first = contents(export(request).path)
    again = Request(**{**request.__dict__, "output_path": tmp_path / "again.xai"})
    assert contents(export(again).path) == first
    options = [
        str(request.source),
        "--split",
        request.split,
        "--input-shape",
        "3,16,20",
        "--preprocess",
        str(request.preprocess),
    ]
    options += ["--arch", request.arch] if request.arch else []
    path = tmp_path / "process.xai"
    command = [sys.executable, "-m", "xai_exporters.cli", *options, "-o", str(path), "-q"]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, env=environment)
    assert contents(path) == first


def test_permissions_let_a_server_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = export_onnx(tmp_path, o.classifier(), roles=HEAD_AND_TAIL).path
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o750
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o640}
    assert os.umask(before) == before


def test_existing_destination(tmp_path: Path) -> None:
    request = onnx_request(tmp_path, o.classifier(), roles=HEAD_AND_TAIL)
    first = contents(export(request).path)
    with pytest.raises(OutputError, match=r"net\.xai: exists already; give --overwrite"):
        export(Request(**{**request.__dict__, "split": "relu_3"}))
    assert contents(tmp_path / "net.xai") == first
    other = export(Request(**{**request.__dict__, "split": "conv_0", "overwrite": True}))
    assert contents(tmp_path / "net.xai") == contents(other.path) != first
    assert left_behind(tmp_path) == ["net.xai"]


@pytest.mark.parametrize("what", ["file", "folder", "full folder", "link to a bundle", "broken link"])
def test_overwrite_replaces_bundles_only(tmp_path: Path, what: str) -> None:
    path = tmp_path / "net.xai"
    if what == "file":
        path.write_text("precious")
    elif "folder" in what:
        path.mkdir()
        if what == "full folder":
            (path / "precious").write_text("precious")
    elif what == "link to a bundle":
        export_onnx(tmp_path, o.classifier(), output_path=tmp_path / "real.xai", roles=HEAD_AND_TAIL)
        path.symlink_to(tmp_path / "real.xai")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists and is not a bundle; --overwrite replaces bundles only"):
        export_onnx(tmp_path, o.classifier(), overwrite=True)
    assert path.is_symlink() or path.exists()
    if what == "full folder":
        assert (path / "precious").read_text() == "precious"


def test_destination_without_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for parent in ("nothing", "file"):
        with pytest.raises(OutputError, match=f"{parent}: no such folder; create it first"):
            export_onnx(tmp_path, o.classifier(), output_path=tmp_path / parent / "net.xai")
    assert left_behind(tmp_path) == ["file"]


def test_not_into_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "old.xai").mkdir()
    (tmp_path / "old.xai" / MANIFEST).touch()
    for inside in ("new.xai", "deep/new.xai"):
        with pytest.raises(OutputError, match=f"{inside}: lies in a bundle, which holds its own files only"):
            check_destination(tmp_path / "old.xai" / inside, overwrite=True)
    check_destination(tmp_path / "old.xai", overwrite=True)


def failing(error: OSError) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("places.tempfile.mkdtemp", "can't be written to"),
        ("_write", "can't be written"),
        ("places.put", "can't be put in place"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str, overwrite: bool
) -> None:
    """Read-only and full disks, as a user without rights would meet them."""
    request = onnx_request(tmp_path, o.classifier(), overwrite=overwrite, roles=HEAD_AND_TAIL)
    before = contents(export(request).path) if overwrite else None
    monkeypatch.setattr(f"xai_exporters.bundle.stage.{name}", failing(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match=rf"{says} \(No space left on device\)"):
        export(request)
    assert left_behind(tmp_path) == (["net.xai"] if overwrite else [])
    assert before is None or contents(tmp_path / "net.xai") == before


@pytest.mark.parametrize("error", [OSError(13, "Permission denied"), KeyboardInterrupt()])
def test_the_old_bundle_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The second of the two renames fails, or the user interrupts it."""
    request = onnx_request(tmp_path, o.classifier(), overwrite=True, roles=HEAD_AND_TAIL)
    before = contents(export(request).path)
    rename = os.rename
    failed: list[Path] = []

    def second_fails(source: Path, destination: Path) -> None:
        if Path(destination) == tmp_path / "net.xai" and not failed:
            failed.append(source)
            raise error
        rename(source, destination)

    monkeypatch.setattr(places, "exchange", lambda *_: False)
    monkeypatch.setattr("xai_exporters.bundle.places.os.rename", second_fails)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        export(request)
    assert len(failed) == 1
    assert contents(tmp_path / "net.xai") == before
    assert left_behind(tmp_path) == ["net.xai"]


def test_default_name_is_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(o.classifier(), tmp_path / "my.net.v2.onnx")
    done = export(Request(tmp_path / "my.net.v2.onnx", preprocess="none", roles=HEAD_AND_TAIL))
    assert (done.path, done.manifest.name) == (Path("my.net.v2.xai"), "my.net.v2")


def test_weights_above_two_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai_exporters.graph.writing._LIMIT", 1000)
    with pytest.raises(GraphError, match=r"weights take \d+ MiB; a self-contained ONNX file holds at most 2 GB"):
        to_bytes(make_model(ir.from_proto(o.classifier()).graph))
