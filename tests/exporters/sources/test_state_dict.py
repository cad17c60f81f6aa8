"""State dicts in their wrappings; the architecture from --arch or from torchvision."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from xai_exporters import Request, export
from xai_exporters.errors import ArchitectureError, SourceError
from xai_exporters.sources import architecture, load_source, torch_export, torchvision_nets

from .. import nets
from ..checks import check_bundle, forward
from ..running import HEAD_AND_TAIL, export_torch, left_behind, torch_request

PREFIXED = {"module.": "", "_orig_mod.": "", "module._orig_mod.": "", "_orig_mod.module.": ""}


def test_torchvision_by_its_scheme(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "mine.pt")
    _, name, known = architecture._builder("torchvision:resnet18", tmp_path / "mine.pt")
    assert (name, known) == ("torchvision:resnet18", torchvision_nets.find_net(tmp_path / "mine.pt", "resnet18"))
    with pytest.raises(ArchitectureError, match="resnet1"):
        load_source(Request(tmp_path / "mine.pt", arch="torchvision:resnet1x"))


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return nets.randomise(nets.Plain())


def wrapped(net: torch.nn.Module, how: str) -> Any:
    weights = net.state_dict()
    if how.endswith("."):
        return {how + key: value for key, value in weights.items()}
    return weights if how == "plain" else {"epoch": 3, "optimizer": {"lr": 0.1}, how: weights}


@pytest.mark.parametrize("how", ["plain", "state_dict", "model", "model_state_dict", "net", "weights", *PREFIXED])
def test_find_weights_takes_wrappings_off(net: torch.nn.Module, how: str) -> None:
    found = architecture.find_weights(wrapped(net, how), Path("x"))
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in net.state_dict().items())


def test_averaged_weights_beside_those_taken_are_said(tmp_path: Path, net: torch.nn.Module) -> None:
    weights, path = net.state_dict(), tmp_path / "resnet8.pt"
    averaged = {key: value + 1 for key, value in weights.items()}
    other = {"w": torch.zeros(1)}
    torch.save({"state_dict": weights, "state_dict_ema": averaged, "metrics": other}, path)
    source = load_source(Request(path, arch="tests.exporters.nets:Plain", input_shape=nets.SHAPE))
    assert source.notes[0] == (
        "The weights are those under 'state_dict'; the file holds others of the same names under 'state_dict_ema'."
    )
    x = np.random.default_rng(0).standard_normal((2, *nets.SHAPE)).astype(np.float32)
    assert source.reference is not None
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(next(iter(source.reference(x).values())), want, rtol=0, atol=1e-5)


def test_a_checkpoint_that_names_its_network(tmp_path: Path, net: torch.nn.Module) -> None:
    torch.save({"arch": "densenet121", "state_dict": net.state_dict()}, tmp_path / "best.pth.tar")
    with pytest.raises(
        ArchitectureError, match=r"--arch NAME for one of torchvision; the file says 'arch': 'densenet121'$"
    ):
        load_source(Request(tmp_path / "best.pth.tar"))


def test_find_weights_keeps_a_prefix_that_not_all_keys_have() -> None:
    weights = {"module.w": torch.zeros(1), "bias": torch.zeros(1)}
    assert architecture.find_weights(weights, Path("x")).keys() == weights.keys()


def test_find_weights_renames_old_densenet_keys() -> None:
    old = {
        "features.denseblock1.denselayer1.norm.1.weight": torch.zeros(1),
        "features.denseblock1.denselayer1.conv.2.weight": torch.ones(1),
        "features.norm0.weight": torch.ones(1),
    }
    assert list(architecture.find_weights(old, Path("x"))) == [
        "features.denseblock1.denselayer1.norm1.weight",
        "features.denseblock1.denselayer1.conv2.weight",
        "features.norm0.weight",
    ]


@pytest.mark.parametrize(
    ("content", "says"), [({}, "it holds nothing"), ({"epoch": 3, "loss": torch.zeros(1)}, "it holds 'epoch', 'loss'")]
)
def test_no_weights_in_the_file(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ArchitectureError, match=says):
        export(Request(tmp_path / "net.pt", output_path=tmp_path / "x.xai"))


@pytest.mark.parametrize(("how", "legacy"), [("plain", True), ("model", False), ("_orig_mod.module.", False)])
def test_export_told_by_content(tmp_path: Path, net: torch.nn.Module, how: str, legacy: bool) -> None:
    source = tmp_path / "weights.onnx"  # a misleading name
    torch.save(wrapped(net, how), source, _use_new_zipfile_serialization=not legacy)
    request = Request(source, arch=nets.arch(nets.Plain), input_shape=nets.SHAPE, output_path=tmp_path / "net.xai",
                      preprocess="assume", roles=HEAD_AND_TAIL)  # fmt: skip
    done = export(request)
    assert done.kind == f"torch state dict, {nets.arch(nets.Plain)}"
    assert done.verified.framework is not None
    check_bundle(done.path, forward(net))


def test_arch_from_a_file_and_classes_from_the_weights(tmp_path: Path) -> None:
    net = nets.randomise(nets.Plain(7))
    (tmp_path / "mine.py").write_text(f"from {nets.__name__} import Plain as build\n")
    done = export_torch(tmp_path, net, arch=f"{tmp_path / 'mine.py'}:build", roles=HEAD_AND_TAIL)
    sys.modules.pop("mine")
    assert done.manifest.classes == 7
    check_bundle(done.path, forward(net))


def test_counters_may_be_missing(tmp_path: Path, net: torch.nn.Module) -> None:
    weights = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "net.pt")
    source = load_source(Request(tmp_path / "net.pt", arch=nets.arch(nets.Plain), input_shape=nets.SHAPE))
    assert source.reference is not None


@pytest.mark.parametrize("name", ["squeezenet1_1-b8a52dc0", "my_resnet18_epoch3"])
def test_torchvision_by_file_name(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    build = torchvision.models.get_model(
        name.split("-", maxsplit=1)[0].removeprefix("my_").removesuffix("_epoch3"), num_classes=7
    )
    net = nets.randomise(build)
    torch.save(net.state_dict(), tmp_path / f"{name}.pth")
    done = export(
        Request(
            tmp_path / f"{name}.pth", input_shape=(3, 32, 40), output_path=tmp_path / "net.xai", roles=HEAD_AND_TAIL
        )
    )
    assert done.manifest.classes == 7
    check_bundle(done.path, forward(net))


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("resnet50-0676ba61", "resnet50"),
        ("wide_resnet50_2-95faca4d", "wide_resnet50_2"),
        ("EfficientNet-B0", "efficientnet_b0"),
        ("vgg16_bn-6c64b313", "vgg16_bn"),
        ("my_squeezenet1_1", "squeezenet1_1"),
    ],
)
def test_torchvision_name(stem: str, name: str) -> None:
    if stem.startswith("my_"):
        stem = stem.removeprefix("my_")
    assert torchvision_nets.name_in(stem) == name


def test_aux_heads_absent_from_the_weights_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.touch()
    weights = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=False).state_dict()
    module, _ = architecture._load(
        torchvision_nets.find_net(path, "googlenet").build, weights, "googlenet", path, {"transform_input": False}, None
    )
    assert module.aux_logits is False


@pytest.mark.parametrize(
    ("arch", "says"),
    [
        (None, r"the file's name \('net'\) contains no name of a torchvision network"),
        ("resnet81", "no network 'resnet81'; the nearest are resnet18"),
        ("no_such_module:build", "ModuleNotFoundError: No module named 'no_such_module'"),
        (":build", "ValueError: Empty module name"),
        ("no/such/file.py:build", "FileNotFoundError"),
        (f"{nets.__name__}:nothing", "AttributeError: .*nothing"),
        (f"{nets.__name__}:NOT_CALLABLE", "NOT_CALLABLE is not callable"),
        (f"{nets.__name__}:not_a_module", "gives a dict, not a torch.nn.Module"),
        (f"{nets.__name__}:broken", "can't be built: RuntimeError: no such dataset"),
        (f"{nets.__name__}:Residual", "it lacks .* and .* more; it has .* that the network lacks"),
    ],
)
def test_architecture_refused(tmp_path: Path, net: torch.nn.Module, arch: str | None, says: str) -> None:
    with pytest.raises(ArchitectureError, match=says):
        export_torch(tmp_path, net, arch=arch)
    assert left_behind(tmp_path) == []


def test_architecture_file_with_an_error(tmp_path: Path, net: torch.nn.Module) -> None:
    (tmp_path / "wrong.py").write_text("def build(:\n")
    with pytest.raises(ArchitectureError, match=r"wrong\.py:build: SyntaxError"):
        export_torch(tmp_path, net, arch=f"{tmp_path / 'wrong.py'}:build")
    sys.modules.pop("wrong", None)


def test_builder_without_num_classes(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"plain\(num_classes=7\) can't be built: TypeError"):
        export_torch(tmp_path, nets.Plain(7), arch=nets.arch("plain"))


def test_weights_of_another_shape(tmp_path: Path, net: torch.nn.Module) -> None:
    weights = dict(net.state_dict())
    weights["conv1.weight"] = torch.zeros(4, 3, 5, 5)
    torch.save(weights, tmp_path / "net.pt")
    with pytest.raises(ArchitectureError, match=r"conv1\.weight is \[4, 3, 5, 5\] instead of \[4, 3, 3, 3\]"):
        export(Request(tmp_path / "net.pt", arch=nets.arch(nets.Plain), output_path=tmp_path / "x.xai"))


def test_network_that_does_not_run(tmp_path: Path, net: torch.nn.Module) -> None:
    with pytest.raises(SourceError, match=r"does not run on images of shape \(1, 16, 20\).*--input-shape"):
        export_torch(tmp_path, net, input_shape=(1, 16, 20))


@pytest.mark.parametrize(("missing", "error"), [("torchvision", ArchitectureError), ("torch", SourceError)])
def test_packages_that_are_not_installed(
    tmp_path: Path, net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, missing: str, error: type[Exception]
) -> None:
    request = torch_request(tmp_path, net, arch=None)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(error, match="install"):
        load_source(request)


def test_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(SourceError, match=r"torch 2\.9\.1\+cpu can be made to run code"):
        torch_export.import_torch()
