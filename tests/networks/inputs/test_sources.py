"""Networks of several inputs from every kind of file that states them: maps and scores against autograd on the live network."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from xai_exporters import Request, export
from xai_exporters.cli import main as xai_export
from xai_exporters.errors import RequestError, SourceError, VerificationError
from xai_exporters.sources import further
from xai_exporters.sources.source_file import Further

from xai_deploy import Explainer

from ..outputs.nets import grad_cam
from .exported import FACTS, seeded
from .nets import SIZE, Branch, Fusion, WithFacts, saved
from .test_further import BACKENDS, DEPTH, RGB, prepared

EXAMPLES = torch.rand(2, 3, *SIZE), torch.rand(2, 1, *SIZE)
FURTHER = torch.rand(2, 4), torch.tensor(2.0)
GRAY = "depth:preprocess=unit:color=GRAY"


def program(network: Any, folder: Path, examples: Any, fixed: bool = False, **keywords: Any) -> Path:
    batch = {0: torch.export.Dim("N")}
    names = ("rgb", "depth") if isinstance(network, Fusion) else ("x", "facts", "temperature")
    shapes = {name: None if name == "temperature" else batch for name in names}
    path = folder / "net.pt2"
    torch.export.save(torch.export.export(network, examples, keywords, dynamic_shapes=None if fixed else shapes), path)
    return path


def pickled(network: Any, folder: Path, *_: Any) -> Path:
    torch.save(network, folder / "net.pt")
    return folder / "net.pt"


def archive(network: Any, folder: Path, examples: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, examples, check_trace=False).save(folder / "net.ts")  # type: ignore[no-untyped-call]
    return folder / "net.ts"


def intermediate(network: Any, folder: Path, examples: Any) -> Path:
    names = ("rgb", "depth") if isinstance(network, Fusion) else ("x", "facts", "temperature")
    onnx = saved(network, folder / "net.onnx", examples, names, ("temperature",))
    openvino.save_model(openvino.convert_model(onnx), folder / "net.xml", compress_to_fp16=False)
    return folder / "net.xml"


def exported(source: Path, **options: Any) -> Any:
    shape = () if source.suffix in (".pt2", ".xml") else (3, *SIZE)
    request = Request(
        source,
        output_path=source.with_suffix(".xai"),
        trust_code=source.suffix != ".xml",
        preprocess="unit",
        input_shape=shape or None,
        **options,
    )
    return export(request)


@pytest.mark.parametrize("write", [program, pickled, archive, intermediate])
def test_two_images(tmp_path: Path, write: Callable[..., Path]) -> None:
    network = seeded(Fusion)
    shape = "" if write in (program, intermediate) else f":shape=1x{SIZE[0]}x{SIZE[1]}"
    done = exported(write(network, tmp_path, EXAMPLES), input_image=(GRAY + shape,), roles=("gradient",))
    assert done.verified.framework < 1e-4  # the file's own framework ran with both images
    x, z = prepared(RGB), prepared(DEPTH)
    want, _ = grad_cam(network.features(x, z), lambda a: network.scores(a)[:, 2])
    for backend in BACKENDS:
        got = Explainer(done.path, backend).explain(RGB, "grad-cam", 2, inputs={"depth": DEPTH})
        np.testing.assert_allclose(got.logits, network(x, z).detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(got.raw, want, atol=1e-4 * max(want.max(), 1e-3))


@pytest.mark.parametrize("write", [program, pickled, archive, intermediate])
def test_facts_and_a_constant(tmp_path: Path, write: Callable[..., Path]) -> None:
    network = seeded(WithFacts)
    examples: tuple[Any, ...] = (EXAMPLES[0], *FURTHER)
    if write is program:  # keywords in another order than the module's
        source = program(network, tmp_path, examples[:1], temperature=FURTHER[1], facts=FURTHER[0])
    else:
        source = write(network, tmp_path, examples)
    done = exported(source, input=("temperature=0.5", "facts=array:4"), roles=("gradient",))
    assert done.verified.framework < 1e-4
    x, facts, half = prepared(RGB), torch.from_numpy(FACTS), torch.tensor(0.5)
    want, _ = grad_cam(network.features(x, facts), lambda a: network.scores(a, facts, half)[:, 1])
    got = Explainer(done.path).explain(RGB, "grad-cam", 1, inputs={"facts": FACTS})
    np.testing.assert_allclose(got.logits, network(x, facts, half).detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(got.raw, want, atol=1e-4 * max(want.max(), 1e-3))
    if write is not pickled:
        return
    np.save(tmp_path / "row.npy", FACTS[:1])
    built_in = exported(
        source, input=("temperature=0.5", f"facts={tmp_path / 'row.npy'}"), overwrite=True, roles=("gradient",)
    )
    assert built_in.verified.framework < 1e-4
    got = Explainer(built_in.path).explain(RGB, "grad-cam", 1)
    np.testing.assert_allclose(got.logits, network(x, facts[:1].expand(3, 4), half).detach().numpy(), atol=1e-5)


def test_program_of_one_pair(tmp_path: Path) -> None:
    network = seeded(Fusion)
    source = program(network, tmp_path, tuple(one[:1] for one in EXAMPLES), fixed=True)
    done = exported(source, input_image=(GRAY,), roles=("gradient",))
    assert done.verified.framework < 1e-4
    got = Explainer(done.path).explain(RGB, "grad-cam", 2, inputs={"depth": DEPTH})
    np.testing.assert_allclose(got.logits, network(prepared(RGB), prepared(DEPTH)).detach().numpy(), atol=1e-5)


def test_the_framework_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of the framework with another depth is noticed."""
    real = further.further_of

    def other(*arguments: Any) -> Any:
        given = real(*arguments)
        return Further({name: rows[::-1] for name, rows in given.rows.items()})

    monkeypatch.setattr("xai_exporters.bundle.verify.further_of", other)
    with pytest.raises(VerificationError, match="differs from the source framework's own output"):
        exported(program(seeded(Fusion), tmp_path, EXAMPLES), input_image=(GRAY,))


def test_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fusion, facts = pickled(seeded(Fusion), tmp_path), tmp_path / "facts.pt"
    torch.save(seeded(WithFacts), facts)
    for source, options, error, said in (
        (
            fusion,
            {},
            SourceError,
            r"does not run on rgb \(3, 15, 19\), depth \(3, 15, 19\) .*--input-image NAME:shape=CxHxW",
        ),
        (
            fusion,
            {"input_image": ("deep",)},
            RequestError,
            "--input-image deep: the network has no such input; it has rgb, depth",
        ),
        (fusion, {"input_image": ("depth:shape=1x2",)}, RequestError, "--input-image depth: the shape is C x H x W"),
        (
            fusion,
            {"input": ("rgb=1", "depth=2")},
            RequestError,
            "leaves no image to explain; the inputs are rgb, depth",
        ),
        (
            facts,
            {"input": ("facts=array", "temperature=1")},
            RequestError,
            r"--input facts=array: a torch network does not say",
        ),
        (facts, {"input": ("facts=array:4:text", "temperature=1")}, RequestError, "as in array:4 for"),
        (
            facts,
            {"input": ("facts=array:4", "temperature=x")},
            RequestError,
            "is neither a .npy file, nor a number, nor 'array'",
        ),
    ):
        with pytest.raises(error, match=said):
            exported(source, **options)
    assert not list(tmp_path.glob("*.xai"))
    command = [str(intermediate(seeded(Fusion), tmp_path, EXAMPLES)), "-q", "--preprocess", "unit"]
    assert xai_export([*command, "--input", "depth=array:1x2x3", "-o", str(tmp_path / "no.xai")]) == 2
    assert "--input depth=array: the input is [depth_0, 1, 15, 19], not 1x2x3" in capsys.readouterr().err


def test_program_without_an_image(tmp_path: Path) -> None:
    class Times(torch.nn.Module):
        def forward(self, x: torch.Tensor, factor: int) -> torch.Tensor:
            return x.mean((2, 3)) * factor

    torch.export.save(torch.export.export(Times(), (EXAMPLES[0], 3)), tmp_path / "net.pt2")
    with pytest.raises(SourceError, match="the program's input '3' is no tensor"):
        exported(tmp_path / "net.pt2")
    torch.export.save(torch.export.export(torch.nn.Linear(4, 2), (FURTHER[0],)), tmp_path / "net.pt2")
    with pytest.raises(SourceError, match=r"none of the program's inputs \(input \[2, 4\]\) is an image"):
        exported(tmp_path / "net.pt2")


@pytest.mark.parametrize(("kind", "fixed"), [("slices", True), ("steps", False), ("reshape", False)])
def test_pairs_on_the_batch_axis(tmp_path: Path, kind: str, fixed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    class Pairs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch, self.last = Branch(3), torch.nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> Any:
            v = self.branch(x).mean((2, 3))
            w = v.reshape(-1, 2, 5)
            pair = {"slices": (v[:1], v[1:2]), "steps": (v[::2], v[1::2]), "reshape": (w[:, 0], w[:, 1])}[kind]
            return self.last((pair[0] - pair[1]).abs())

    source = saved(Pairs(), tmp_path / "net.onnx", EXAMPLES[:1], ("x",), ("x",) if fixed else ())
    assert xai_export([str(source), "-q", "--preprocess", "unit", "-o", str(tmp_path / "no.xai")]) == 2
    line = capsys.readouterr().err
    assert "has 1 row for 2 images on the batch axis of 'x': the network makes one output of several images" in line
    assert not (tmp_path / "no.xai").exists()
