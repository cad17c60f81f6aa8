"""Options from TOML and from Python, and values that are none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from xai_exporters import Request, export, list_layers
from xai_exporters.config import load_config
from xai_exporters.errors import RequestError
from xai_exporters.request import check


def config(folder: Path, text: str) -> dict[str, Any]:
    (folder / "export.toml").write_text(text)
    return load_config(folder / "export.toml")


def test_every_option(tmp_path: Path) -> None:
    values = config(
        tmp_path,
        """
        source = "weights/net.pt"
        split = "layer4"
        output-path = "out/net.xai"
        overwrite = true
        name = "net"
        arch = "mine:build"
        trust-pickle = true
        input-shape = [3, 32, 48]
        output = "scores"
        labels = "labels.txt"
        roles = ["head", "tail"]
        [preprocess]
        preset = "tf"
        mean = [0.5]
        resize = 64
        """,
    )
    assert Request(**values) == Request(
        source=tmp_path / "weights/net.pt",
        split="layer4",
        output_path=tmp_path / "out/net.xai",
        overwrite=True,
        name="net",
        arch="mine:build",
        trust_code=True,
        input_shape=(3, 32, 48),
        output="scores",
        labels=tmp_path / "labels.txt",
        roles=("head", "tail"),
        preprocess="tf",
        preprocess_fields={"mean": [0.5], "resize": 64},
    )


def test_preset_alone_and_absolute_paths(tmp_path: Path) -> None:
    assert config(tmp_path, 'preprocess = "imagenet"\nlabels = "/data/labels.txt"') == {
        "preprocess": "imagenet",
        "labels": Path("/data/labels.txt"),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sourc = 3", "unknown key 'sourc'; keys are xai-export's long options"),
        ("preprocess-fields = {}", "unknown key 'preprocess-fields'"),
        ("labels = 3", "labels is a file's path"),
        ('overwrite = "yes"', "overwrite = 'yes' is not a value for this option"),
        ("trust-pickle = 1", "trust-pickle = 1 is not a value"),
        ("trust-code = 'yes'", "trust-code = 'yes' is not a value"),
        ("split = true", "split = True is not a value"),
        ("split = ['a']", r"split = \['a'\] is not a value"),
        ("input-shape = 3", "input-shape = 3 is not a value"),
        ('input-shape = "3,2,2"', "input-shape = '3,2,2' is not a value"),
        ('roles = "head"', "roles = 'head' is not a value"),
        ("[name]\nx = 1", "name = {'x': 1} is not a value|--name takes a name"),
        ("split = ", "not valid TOML"),
        ("split = 'a'\nsplit = 'b'", "not valid TOML"),
    ],
)
def test_refused_config(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        check(Request(**{"source": tmp_path, **config(tmp_path, text)}))


def test_config_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"can't be read \(No such file or directory\)"):
        load_config(tmp_path / "nothing.toml")
    with pytest.raises(RequestError, match=r"can't be read \(Is a directory\)"):
        load_config(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="not valid TOML"):
        load_config(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"input_shape": (3, 16)}, r"--input-shape takes channels,height,width, .* \(of volumes .*\); got \(3, 16\)"),
        ({"input_shape": (3, 0, 16)}, "--input-shape takes"),
        ({"input_shape": (3, 16.0, 16)}, "--input-shape takes"),
        ({"input_shape": (3, True, 16)}, "--input-shape takes"),
        ({"split": ""}, "--split takes a name; got ''"),
        ({"name": 3}, "--name takes a name; got 3"),
        ({"arch": ""}, "--arch takes a name"),
        ({"output": ""}, "--output takes a name"),
        ({"roles": (1, "head")}, r"--roles takes names of graphs; got \(1, 'head'\)"),
        ({"roles": ("head", "gradients")}, "no role 'gradients'; there are head, tail, network, pixelwise-tail"),
    ],
)
def test_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        export(Request(**{"source": tmp_path / "net.onnx", "output_path": tmp_path / "net.xai", **options}))


_ANYTHING: tuple[Any, ...] = (5, b"x", 3.5, ["a", 1], {"a": 1}, "a\0b", Path("a\0b"), object(), (None,))
_PATHS = ("source", "output_path", "sign", "classes", "labels", "web", "web_samples", "ort_web", "require_sanity")
_ARE_VALUES = {"memory": (5,), "arch_options": ({"a": 1},), "preprocess_fields": ({"a": 1},), "logit_scale": (5, 3.5)}
"""What of these is a value of the field's type; whether it fits is asked elsewhere."""


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Request)])
def test_fields_of_other_types(tmp_path: Path, field: str) -> None:
    """One line of ours for each, before anything is read or written."""
    beside: dict[str, Any] = {"web": tmp_path / "page"} if field.startswith(("ort_web", "web_")) else {}
    optional = Request.__dataclass_fields__[field].default is None
    for given in (*_ANYTHING, *(() if optional else (None,))):
        if given in _ARE_VALUES.get(field, ()) or (field == "randomise" and given == 5):
            continue
        if field == "randomise_seed" and given == 5:
            continue
        values = {"source": tmp_path / "no.onnx", "output_path": tmp_path / "net.xai", "fuse": ("cam",), **beside}
        with pytest.raises(RequestError) as caught:
            export(Request(**{**values, field: given}))
        assert "\n" not in str(caught.value)
        if field in _PATHS and isinstance(given, bytes):
            assert "is a path, a str or a pathlib.Path; got bytes" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_path_may_be_a_text(tmp_path: Path) -> None:
    texts = {field: str(tmp_path / field) for field in _PATHS}
    one = Request(**texts, serve_repo=("triton", str(tmp_path / "repo")))  # type: ignore[arg-type]
    paths: dict[str, Any] = {field: tmp_path / field for field in _PATHS}
    assert one == Request(**paths, serve_repo=("triton", tmp_path / "repo"))
    assert load_config(str(_written(tmp_path))) == {"labels": tmp_path / "a.txt"}


def _written(folder: Path) -> Path:
    (folder / "a.toml").write_text('labels = "a.txt"')
    return folder / "a.toml"


def test_a_network_in_place_of_its_file() -> None:
    with pytest.raises(RequestError, match=r"the source is a file's path, .*; got an object; save the network first"):
        list_layers(Request(object()))  # type: ignore[arg-type]
