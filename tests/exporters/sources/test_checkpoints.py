"""Checkpoints of training programs: objects beside the weights, which are never made, and prefixes."""

from __future__ import annotations

import argparse
import collections
import pickle
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from xai_exporters import Request, export
from xai_exporters.errors import ArchitectureError, SourceError, UntrustedSourceError
from xai_exporters.sources import TrainedNetwork, load_source, torch_file
from xai_exporters.sources.inert_pickle import Inert, read_inert
from xai_exporters.sources.prefixes import without_prefix
from xai_exporters.sources.source_file import SourceFile

from .. import nets
from ..checks import check_bundle, forward


class Hyper(dict[str, Any]):
    """As Lightning's AttributeDict: a dictionary with a class of its own. Whoever makes one leaves a mark."""

    made = 0

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        Hyper.made += 1

    def __setstate__(self, state: Any) -> None:
        Hyper.made += 1


class Losses(list[float]):
    """A list with a class of its own."""


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return nets.randomise(nets.Plain())


def checkpoint(weights: Any) -> dict[str, Any]:
    """As Lightning writes one: its keys, and objects of its and the user's classes among the hyperparameters."""
    hyper = Hyper(args=argparse.Namespace(lr=0.1, sizes={1, 2}), loss=torch.nn.CrossEntropyLoss, path=Path("x"))
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.6.6",
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"losses": Losses([1.0])}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "groups": collections.defaultdict(list)}],
        "hyper_parameters": hyper,
        "state_dict": weights,
    }


def prefixed(net: torch.nn.Module, prefix: str, **others: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**{prefix + key: value for key, value in net.state_dict().items()}, **others}


@pytest.mark.parametrize("legacy", [False, True])
def test_lightning(tmp_path: Path, net: torch.nn.Module, legacy: bool) -> None:
    weights = prefixed(net, "model._orig_mod.", **{"loss.weight": torch.ones(5)})
    source = tmp_path / "last.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old form warns that it can't find a class's source
        torch.save(checkpoint(weights), source, _use_new_zipfile_serialization=not legacy)
    made = Hyper.made
    request = Request(source, arch=nets.arch(nets.Plain), input_shape=nets.SHAPE, output_path=tmp_path / "net.xai",
                      preprocess="none")  # fmt: skip
    done = export(request)
    assert Hyper.made == made
    assert "The weights are those under 'model._orig_mod.'; left out: loss.weight." in done.notes
    assert any("were not loaded, only its weights" in line for line in done.notes)
    check_bundle(done.path, forward(net))


@pytest.mark.parametrize(("legacy", "protocol"), [(False, 1), (False, 4), (True, 1), (True, 3), (True, 5)])
def test_every_protocol_of_pickles(tmp_path: Path, net: torch.nn.Module, legacy: bool, protocol: int) -> None:
    source = tmp_path / "net.pth"
    torch.save(net.state_dict(), source, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    content, _ = torch_file._load_with_objects(SourceFile.open(source), Request(source), "")
    assert torch_file.matches(SourceFile.open(source))
    for name, value in net.state_dict().items():
        assert torch.equal(content[name], value)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_protocol_that_torch_can_not_read(tmp_path: Path, net: torch.nn.Module, legacy: bool) -> None:
    torch.save(net.state_dict(), tmp_path / "net.pth", pickle_protocol=0, _use_new_zipfile_serialization=not legacy)
    for trust in (False, True):
        with pytest.raises(SourceError, match=r"net.pth: written with pickle_protocol=0, .*; save it again without it"):
            load_source(Request(tmp_path / "net.pth", arch=nets.arch(nets.Plain), trust_code=trust))


def test_weights_under_a_rare_key(tmp_path: Path, net: torch.nn.Module) -> None:
    def load(content: Any) -> TrainedNetwork:
        torch.save(content, tmp_path / "net.pth")
        return load_source(Request(tmp_path / "net.pth", arch=nets.arch(nets.Plain), input_shape=nets.SHAPE))

    weights = net.state_dict()
    for key in ("params", "ema_state_dict"):
        assert f"The weights are those under {key!r}." in load({"epoch": 3, key: weights, "loss": torch.ones(())}).notes
    with pytest.raises(ArchitectureError, match=r"several sets of weights in it \('params', 'params_ema'\); save one"):
        load({"params": weights, "params_ema": weights})
    with pytest.raises(ArchitectureError, match=r"no state dict in it \(it holds 'ema'\)"):
        load({"ema": {"shadow": list(weights.values())}})


def test_objects_without_weights_need_trust(tmp_path: Path) -> None:
    torch.save({"hyper_parameters": Hyper(), "state_dict": {"a": Hyper()}}, tmp_path / "net.ckpt")
    with pytest.raises(UntrustedSourceError, match=r"net\.ckpt: holds Python objects \(\S+Hyper\).*--trust-code"):
        load_source(Request(tmp_path / "net.ckpt"))


def test_trust_without_the_classes(tmp_path: Path, net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --trust-code, a class that can't be imported no longer hides the weights."""
    torch.save(checkpoint(net.state_dict()), tmp_path / "net.ckpt")
    monkeypatch.delattr(__import__(__name__, fromlist=["Hyper"]), "Hyper")
    source = load_source(
        Request(tmp_path / "net.ckpt", arch=nets.arch(nets.Plain), input_shape=nets.SHAPE, trust_code=True)
    )
    assert source.kind == f"torch state dict, {nets.arch(nets.Plain)}"


def rewritten(folder: Path, data: bytes) -> Path:
    """A torch file whose pickle is replaced."""
    torch.save({"w": torch.arange(3.0)}, folder / "good.pt")
    with zipfile.ZipFile(folder / "good.pt") as old, zipfile.ZipFile(folder / "net.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    return folder / "net.pt"


def test_nothing_is_called(tmp_path: Path) -> None:
    """Reduce, new object, instance and attributes: all leave inert objects, and nothing is imported."""
    mark = tmp_path / "mark"
    text = str(mark).encode()
    data = (
        b"\x80\x02](cpathlib\nPath.touch\nX" + len(text).to_bytes(4, "little") + text + b"\x85R"  # REDUCE
        b"cno.such\nThing\n)\x81}X\x01\x00\x00\x00aK\x01sb"  # NEWOBJ, BUILD
        b"(K\x01ino.such\nThing\n"  # INST
        b"(cno.such\nThing\nK\x01o"  # OBJ
        b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb"  # BUILD on a function
        b"e."
    )
    content = read_inert(rewritten(tmp_path, data))
    assert [type(value) for value in content[:4]] == [Inert] * 4
    assert not mark.exists()
    assert not hasattr(content[4], "a")


def test_a_plain_file_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    half = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4).T
    content = {"w": half, "p": torch.nn.Parameter(torch.ones(2)), "empty": torch.zeros(0, 3), "shared": half[1:]}
    torch.save(content, tmp_path / "net.pt")
    found = read_inert(tmp_path / "net.pt")
    assert found.keys() == content.keys()
    for key, value in content.items():
        assert torch.equal(found[key], value)
        assert found[key].stride() == value.stride()


NESTED = b")" + b"q\x01h\x01\x86" * 60  # a tuple of two tuples of ..., 2^60 leaves in all


@pytest.mark.parametrize("where", ["a key", "a key among several", "nothing yet"])
def test_a_key_whose_hash_never_ends(tmp_path: Path, where: str) -> None:
    """torch would hash the key, in 2^60 steps; the file is refused before torch sees it."""
    data = {"a key": b"}" + NESTED + b"K\x01s.", "a key among several": b"}(K\x01K\x02" + NESTED + b"K\x01u.",
            "nothing yet": NESTED + b"."}[where]  # fmt: skip
    with pytest.raises(UntrustedSourceError, match=r"holds Python objects \(nested tuples\)"):
        load_source(Request(rewritten(tmp_path, b"\x80\x02" + data)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x80\x02}" + NESTED + b"K\x01s.", None),
        (b"\x80\x04\x8f(" + NESTED + b"\x90.", None),
        (b"\x80\x04(" + NESTED + b"\x91.", None),
        (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".", "no file of torch's has"),
        (b"\x80\x02P1\n.", "no file of torch's has"),
        (b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
         b"\x8a\x05\x00\x00\x00\x00\x01tQ.", "more than the file holds"),
    ],
)  # fmt: skip
def test_bombs(tmp_path: Path, data: bytes, says: str | None) -> None:
    source = rewritten(tmp_path, data)
    started = time.process_time()
    if says is None:
        read_inert(source)
    else:
        with pytest.raises(pickle.UnpicklingError, match=says):
            read_inert(source)
    assert time.process_time() - started < 5  # or no end at all


@pytest.mark.parametrize(("size", "says"), [(4, "larger than its storage"), (-1, "impossible shape")])
def test_a_tensor_outside_its_storage(tmp_path: Path, size: int, says: str) -> None:
    torch.save({"w": torch.arange(3.0)}, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as archive:
        data = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    changed = data.replace(b"K\x00K\x03\x85", b"K\x00J" + size.to_bytes(4, "little", signed=True) + b"\x85")
    assert changed != data
    with pytest.raises(pickle.UnpicklingError, match=says):
        read_inert(rewritten(tmp_path, changed))


NAMES = ("conv.weight", "conv.bias", "fc.weight")


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "student.backbone.", "_orig_mod.module."])
def test_prefixes(prefix: str) -> None:
    weights = {prefix + name: torch.zeros(1) for name in NAMES} | {"loss.weight": torch.ones(1)}
    found, line = without_prefix(weights, NAMES, Path("x"))
    assert set(found) == ({*NAMES, "loss.weight"} if not prefix else {*NAMES})
    assert line == (f"The weights are those under {prefix!r}; left out: loss.weight." if prefix else None)


def test_a_prefix_of_the_networks_own_stays() -> None:
    weights = {"model.a": torch.zeros(1), "model.b": torch.zeros(1)}
    assert without_prefix(weights, ("model.a", "model.b"), Path("x")) == (weights, None)


def test_several_networks_in_one_file() -> None:
    weights = {prefix + name: torch.zeros(1) for prefix in ("student.", "teacher.") for name in NAMES}
    with pytest.raises(ArchitectureError, match=r"several networks in it fit \('student\.' and 'teacher\.'\); save"):
        without_prefix(weights, NAMES, Path("x"))
