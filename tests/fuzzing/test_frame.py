"""The fuzzers see what they are there to see, and find nothing in a few inputs."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from fuzzing import campaign, graphs, json_values, material, mutations, onnx_fields, target  # noqa: E402

FAULTY = "tests.fuzzing.faulty"


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that find the faulty target, and wait shortly."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'exporters'}")
    monkeypatch.setattr(campaign, "LIMIT", 4.0)


@pytest.mark.usefixtures("workers")
def test_every_fault_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker after another, in one campaign: a death does not hide what follows."""
    monkeypatch.setattr(campaign, "ALLOWED", 1 << 27)
    worker = campaign.Worker(FAULTY, str(tmp_path))
    kinds = {}
    for word in ("good", "crash", "refused", "uncaught", "unallocated", "memory", "hang", "good"):
        kinds[word] = worker.run(word.encode()).kind
    worker.close()
    assert kinds == {
        "good": "accepted",
        "crash": "crash",
        "refused": "refused",
        "uncaught": "uncaught",
        "unallocated": "memory",
        "memory": "memory",
        "hang": "hang",
    }


@pytest.mark.usefixtures("workers")
def test_faults_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(target.load(FAULTY), "seeds", lambda: [b"uncaught", b"good", b"refused"])
    done = campaign.run(FAULTY, 3, 60, 0, 1, tmp_path / "saved")
    assert (done.counts, done.faults) == ({"uncaught": 1, "accepted": 1, "refused": 1}, 1)
    [file] = (tmp_path / "saved").iterdir()
    assert file.read_bytes() == b"uncaught"
    assert "ValueError: nobody's" in capsys.readouterr().err


def test_mutations_repeat_and_differ() -> None:
    """The same seed gives the same input; nearly all inputs differ from the seed."""
    model = material.network()
    document = {"a": [1, {"b": "c"}], "d": 0.5}
    ways: tuple[Callable[[random.Random], bytes], ...] = (
        lambda rng: mutations.mutate_bytes(bytes(range(200)), [b"other" * 20], rng),
        lambda rng: json_values.dumps(json_values.mutate_json(document, rng)),
        lambda rng: bytes(onnx_fields.mutate_onnx(model, rng).SerializeToString()),
    )
    for mutate in ways:
        made = [mutate(random.Random(k)) for k in range(50)]
        assert made == [mutate(random.Random(k)) for k in range(50)]
        assert len(set(made)) > 25
    assert document == {"a": [1, {"b": "c"}], "d": 0.5}
    assert model == material.network()


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("target", ["manifests", "parts", "graphs_onnxruntime", "graphs_openvino"])
def test_few_inputs(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The seeds are accepted, mutations of them harm nothing."""
    done = campaign.run(target, 60, 120, 0, 1, tmp_path)
    assert done.faults == 0, capsys.readouterr().err
    assert done.counts["accepted"] >= (8 if target.startswith("graphs") else 1)
    assert done.counts["refused"] > 10


def test_seeds_are_every_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new role needs a method here."""
    monkeypatch.setenv("XAI_FUZZ_FOLDER", str(tmp_path))
    roles = {path.stem for path in material.bundle().glob("*.onnx") if not path.stem.startswith("fused-")}
    assert roles == {seed.partition(b"\n")[0].decode() for seed in graphs.seeds()}
    for seed in graphs.seeds():
        onnx.checker.check_model(onnx.ModelProto.FromString(seed.partition(b"\n")[2]))
