"""What `write_site` writes and refuses; where `runtime_files` gets the runtime."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from xai_exporters.deliver.web import check_site, runtime_files, write_site
from xai_exporters.errors import OutputError, RequestError

from xai_deploy.format.bundle import Bundle
from xai_deploy.pictures import find_colormap

from .conftest import METHODS, PAGE, served

RUNTIME = {"ort.wasm.bundle.min.mjs": b"runtime", "ort-wasm-simd-threaded.wasm": b"wasm"}
PACKAGE = "onnxruntime-web-1.30.0.tgz"

Digits = Callable[..., Bundle]
Case = tuple[str, str, int, int, str]  # kind, activation, type and number of the scores; what is made of them


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_site_is_static_and_complete(digits: Digits, tmp_path: Path) -> None:
    bundle = digits("plain")
    write_site(tmp_path / "site", bundle, RUNTIME)
    written = files(tmp_path / "site")
    for method in METHODS:  # the bundle's, and the map before min-max beside its other outputs
        model = onnx.load_from_string(written.pop(f"networks/fused-{method}.onnx"))
        assert model.graph.output.pop().name == "saliency_raw"
        assert model.SerializeToString(deterministic=True) == bundle.graph(f"fused-{method}")
    page = {path.name: path.read_bytes() for path in PAGE.iterdir()}
    runtime = {"onnxruntime/ort.wasm.bundle.min.js": b"runtime", "onnxruntime/ort-wasm-simd-threaded.wasm": b"wasm"}
    for name, data in (page | runtime).items():
        assert written.pop(name) == data
    assert b"Copyright (c) Microsoft Corporation" in written.pop("onnxruntime/LICENSE.txt")
    config = json.loads(written.pop("config.json"))
    assert written == {}
    assert [method["name"] for method in config["methods"]] == list(METHODS)
    assert [method["name"] for method in config["methods"] if method["signed"]] == ["relevance-cam"]
    assert [method["name"] for method in config["methods"] if method["at_pixels"]] == ["gradient"]
    for kind, signed in (("positive", False), ("signed", True)):
        assert config["colors"][kind] == find_colormap(None, signed).table.tobytes().hex()
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "site" / "networks").iterdir()}
    assert config["bytes"].items() >= {(f"networks/{name}", size) for name, size in sizes.items()}
    assert config["bytes"].items() >= {(name, len(data)) for name, data in runtime.items()}
    assert (config["name"], config["title"], config["samples"]) == ("clutter_digits", "clutter_digits", [])
    assert (config["layer"], config["apply"]) == ("stage3", "softmax")
    assert config["labels"] == list(bundle.labels)
    assert stat.S_IMODE((tmp_path / "site").stat().st_mode) & 0o055, "a server's user can't read it"
    for name, data in page.items():  # nothing from elsewhere
        assert re.findall(rb"https?://", data) == [], name
    for name in re.findall(rb'(?:src|href)="(?!data:)([^"]+)"', page["index.html"]):
        assert name.decode() in page
    for name, data in page.items():
        for module in re.findall(rb'from "\./([^"]+)"', data):
            assert module.decode() in page | runtime, name


def test_the_same_twice(digits: Digits, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_site(tmp_path / name, digits("plain"), RUNTIME)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_destination_is_replaced_only_if_asked_and_ours(digits: Digits, tmp_path: Path) -> None:
    bundle, place = digits("plain"), tmp_path / "site"
    write_site(place, bundle, RUNTIME)
    with pytest.raises(
        OutputError, match=r"site: exists already; give --overwrite to replace it, or another folder with --web$"
    ):
        write_site(place, bundle, RUNTIME)
    networks = place / "networks"
    write_site(place, digits("fewer", methods=("grad-cam",)), RUNTIME, overwrite=True)
    assert [path.name for path in networks.iterdir()] == ["fused-grad-cam.onnx"]
    (networks / "mine").touch()
    with pytest.raises(
        OutputError, match=r"site: holds 'networks/mine', which xai-export did not write; move it away first$"
    ):
        write_site(place, bundle, RUNTIME, overwrite=True)
    for make in (lambda p: p.mkdir(), lambda p: p.touch(), lambda p: p.symlink_to(place), _foreign):
        other = tmp_path / "other"
        make(other)
        with pytest.raises(
            OutputError,
            match=r"other: exists and is not a page that xai-export wrote; --overwrite replaces only those$",
        ):
            check_site(other, overwrite=True)
        if other.is_dir() and not other.is_symlink():
            (other / "config.json").unlink(missing_ok=True)
            other.rmdir()
        else:
            other.unlink()
    with pytest.raises(OutputError, match=r"nowhere: no such folder; create it first$"):
        check_site(tmp_path / "nowhere" / "site", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def _foreign(path: Path) -> None:
    path.mkdir()
    (path / "config.json").write_text("[1]")


def test_a_failure_leaves_what_was_there(digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "site"
    write_site(place, digits("plain"), RUNTIME)
    before = files(place)

    def no_sync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_sync)
    with pytest.raises(OutputError, match=r"site: can't be written \(No space left on device\)$"):
        write_site(place, digits("plain"), RUNTIME, overwrite=True)
    assert files(place) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


class _Other:
    """A bundle with another manifest, and fused graphs of other types."""

    def __init__(self, bundle: Bundle, change: Callable[[onnx.ModelProto], None], **fields: Any) -> None:
        self.manifest = dataclasses.replace(bundle.manifest, **fields)
        self.labels = bundle.labels
        self.change, self.bundle = change, bundle

    def graph(self, role: str) -> bytes:
        model = onnx.load_from_string(self.bundle.graph(role))
        self.change(model)
        return bytes(model.SerializeToString())


def _retyped(kind: str, to: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        value = {"input": model.graph.input, "output": model.graph.output}[kind][0]
        value.type.tensor_type.elem_type = to

    return change


@pytest.mark.parametrize(("kind", "what"), [("input", "input"), ("output", "scores")])
def test_float16_is_refused(digits: Digits, tmp_path: Path, kind: str, what: str) -> None:
    other = _Other(digits("plain"), _retyped(kind, onnx.TensorProto.FLOAT16))
    message = f"^--web: the network has float16 {what}, and the page takes float32 and uint8 only; export the network in float32$"
    with pytest.raises(RequestError, match=message):
        write_site(tmp_path / "site", other, RUNTIME)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_further_input_is_refused(digits: Digits, tmp_path: Path) -> None:
    def further(model: onnx.ModelProto) -> None:
        model.graph.input.append(onnx.helper.make_tensor_value_info("age", onnx.TensorProto.FLOAT, ["N", 1]))

    message = (
        r"^--web: the network takes 'age' beside the picture, and the page gives the picture alone; build it in with "
        r"--input age=FILE$"
    )
    with pytest.raises(RequestError, match=message):
        write_site(tmp_path / "site", _Other(digits("plain"), further), RUNTIME)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_fused_graphs_is_refused(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"^--web needs fused graphs; name methods with --fuse, for example --fuse grad-cam$"
    ):
        write_site(tmp_path / "site", digits("bare", methods=()), RUNTIME)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "case",
    [
        ("logits", "none", onnx.TensorProto.FLOAT, 10, "softmax"),
        ("logits", "none", onnx.TensorProto.FLOAT, 1, "raw"),
        ("logits", "none", onnx.TensorProto.UINT8, 10, "raw"),
        ("probabilities", "sigmoid", onnx.TensorProto.FLOAT, 10, "none"),
        ("probabilities", "softmax", onnx.TensorProto.UINT8, 10, "share"),
        ("probabilities", "sigmoid", onnx.TensorProto.UINT8, 10, "raw"),
        ("probabilities", "normalised", onnx.TensorProto.FLOAT, 10, "none"),
        ("probabilities", "independent", onnx.TensorProto.FLOAT, 10, "none"),
        ("probabilities", "independent", onnx.TensorProto.UINT8, 10, "raw"),
        ("derived", "softmax", onnx.TensorProto.FLOAT, 10, "share"),
        ("derived", "sigmoid", onnx.TensorProto.FLOAT, 10, "raw"),
    ],
)
def test_what_makes_probabilities(digits: Digits, tmp_path: Path, case: Case) -> None:
    kind, activation, elements, classes, apply = case
    bundle = digits("plain")
    [output] = bundle.manifest.outputs
    told = dataclasses.replace(output, kind=kind)  # type: ignore[arg-type]
    foreign = dataclasses.replace(output, name="features", shape=(3, 3), kind="other")
    other = _Other(
        bundle, _retyped("output", elements), outputs=(foreign, told), classes=classes, activation=activation
    )
    write_site(tmp_path / "site", other, RUNTIME)  # type: ignore[arg-type]
    config = json.loads((tmp_path / "site" / "config.json").read_bytes())
    assert (config["apply"], config["names"]["scores"]) == (apply, output.name)


def test_classes_without_labels_are_numbered(digits: Digits, tmp_path: Path) -> None:
    other = _Other(digits("plain"), lambda model: None)
    other.labels = ()
    write_site(tmp_path / "site", other, RUNTIME)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "site" / "config.json").read_bytes())["labels"][:2] == ["class 0", "class 1"]


def package(contents: dict[str, bytes]) -> bytes:
    """A package file as npm has it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "xai-deploy" / "onnxruntime-web-1.30.0"


def test_the_runtime_from_a_registry_and_then_the_cache(
    runtime: dict[str, bytes], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "registry" / "npm" / "onnxruntime-web" / "-" / PACKAGE
    place.parent.mkdir(parents=True)
    place.write_bytes(package({"other.js": b"x", **runtime}))
    said: list[str] = []
    with served(tmp_path / "registry") as (address, asked):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{address}npm")
        assert runtime_files(say=said.append) == runtime
        assert asked == [f"/npm/onnxruntime-web/-/{PACKAGE}"]
        assert files(cache) == runtime
        assert runtime_files(say=said.append) == runtime
        (cache / "ort-wasm-simd-threaded.wasm").write_bytes(b"damaged")
        assert runtime_files() == runtime
        assert len(asked) == 2
    assert said == ["downloading onnxruntime-web 1.30.0 (33 MB)"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))  # a file: no cache can be kept there
    with served(tmp_path / "registry") as (address, _):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{address}npm")
        assert runtime_files() == runtime


@pytest.mark.parametrize("form", ["package", "package/dist", "dist", "node_modules/onnxruntime-web/dist", "."])
def test_the_runtime_from_a_file_or_folder(runtime: dict[str, bytes], tmp_path: Path, cache: Path, form: str) -> None:
    if form == "package":
        (tmp_path / PACKAGE).write_bytes(package(runtime))
        assert runtime_files(tmp_path / PACKAGE) == runtime
    else:
        (tmp_path / "given" / form).mkdir(parents=True)
        for name, data in runtime.items():
            (tmp_path / "given" / form / name).write_bytes(data)
        assert runtime_files(tmp_path / "given") == runtime
    assert not cache.exists()


def test_a_runtime_that_is_not_the_one(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get = r"of onnxruntime-web 1\.30\.0; get it with `npm pack onnxruntime-web@1\.30\.0`$"
    (tmp_path / "wrong.tgz").write_bytes(package(RUNTIME))
    with pytest.raises(RequestError, match=rf"wrong\.tgz: ort\.wasm\.bundle\.min\.mjs differs from that {get}"):
        runtime_files(tmp_path / "wrong.tgz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        RequestError, match=rf"empty: ort\.wasm\.bundle\.min\.mjs is missing; the page needs that {get}"
    ):
        runtime_files(tmp_path / "empty")
    with pytest.raises(
        RequestError,
        match=r"none\.tgz: no such file or folder; --ort-web takes onnxruntime-web-",
    ):
        runtime_files(tmp_path / "none.tgz")
    for data in (b"no archive", b"", package(RUNTIME)[:40]):
        (tmp_path / "broken.tgz").write_bytes(data)
        with pytest.raises(
            RequestError, match=r"broken\.tgz: can't be read as an npm package \(.+\); --ort-web takes "
        ):
            runtime_files(tmp_path / "broken.tgz")
    place = tmp_path / "onnxruntime-web" / "-" / PACKAGE
    place.parent.mkdir(parents=True)
    place.write_bytes(package(RUNTIME))
    with served(tmp_path) as (address, _):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        with pytest.raises(RequestError, match=rf"{PACKAGE}: ort\.wasm\.bundle\.min\.mjs differs from that {get}"):
            runtime_files()
    assert not cache.exists()


def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        message = (
            r"^onnxruntime-web 1\.30\.0 can't be downloaded from http://127\.0\.0\.1:\d+/onnxruntime-web/-/onnxruntime-web-"
            r"1\.30\.0\.tgz "
            r"\(.*refused.*\); on a machine with a network, run `npm pack onnxruntime-web@1\.30\.0`, and give "
            r"onnxruntime-web-1\.30\.0\.tgz with --ort-web$"
        )
        with pytest.raises(RequestError, match=message):
            runtime_files()
    with served(tmp_path) as (address, _):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        with pytest.raises(RequestError, match=r"can't be downloaded from .* \(HTTP Error 404: .*\)"):
            runtime_files()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    with pytest.raises(
        RequestError, match=r"^NPM_CONFIG_REGISTRY is 'file:///etc'; a registry's address begins with https://$"
    ):
        runtime_files()
    assert not cache.exists()
