"""Fixtures that every test may use."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import readers
from tests.support.compiled_once import compile_once, open_once, share_compiled
from tests.support.one_thread import one_thread
from xai_deploy.backends import openvino
from xai_deploy.foundation import runtimes

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests import runtimes themselves, before ours could say it
with contextlib.suppress(ImportError):
    runtimes.openvino()  # likewise; a warning of its telemetry would land in the first test that opens a bundle


one_thread()
share_compiled(openvino)

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers (--dist loadgroup) a file stays on one; the exported networks are shared out one by one.

    A case of a file goes where the same case of the file `BESIDE` goes, if it names one.
    """
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")  # type: ignore[attr-defined]
        file = getattr(getattr(item, "module", None), "BESIDE", item.path.name)
        item.add_marker(pytest.mark.xdist_group(f"{file}:{case or ''}"))


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """Names the test that ended its worker at once; pytest itself says so after the last test, which a hang would prevent."""
    sys.stderr.write(f"\nworker ended while running {crashitem}\n")


def pytest_configure() -> None:
    """Nothing that a test writes has to survive a crash of the system, and waiting for the disk takes minutes of the tests.

    While the tests are collected nothing becomes garbage, and to look for it among ever more objects takes time.
    """
    os.fsync = _not_waited_for  # type: ignore[assignment]
    gc.disable()


def _not_waited_for(descriptor: int) -> None:
    if descriptor < 0:
        raise ValueError("file descriptor cannot be a negative integer")  # os.fsync's own; others raise an OSError
    os.fstat(descriptor)  # as before, one that is closed is an error


def pytest_collection_finish() -> None:
    """Where tests export with torch, spare what it repeats: a table that it parses anew for every export, a look at all of its
    operators for each of their fifty libraries, and the search for garbage among the millions of objects that it makes
    meanwhile. A fifth of the tests' time. Where they export, spare the runtimes what they prepare twice, and each reader's imports.
    """
    if "xai_exporters.bundle.installed" in sys.modules:
        compile_once(sys.modules["xai_exporters.bundle.installed"])
    if "xai_exporters.graph.measure" in sys.modules:
        open_once(sys.modules["xai_exporters.graph.measure"])
    if "xai_exporters.sources.openvino_ir.parent" in sys.modules:
        readers.fork(sys.modules["xai_exporters.sources.openvino_ir.parent"])
    gc.enable()
    if "torch" not in sys.modules:
        return
    import torch._export.utils
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    # the operators are the same all the time: no test registers one
    torch._export.utils._materialize_cpp_cia_ops = functools.cache(torch._export.utils._materialize_cpp_cia_ops)
    parsed = functools.cache(ONNXRegistry.from_torchlib)

    def from_torchlib(*opset: Any, **named: Any) -> Any:
        found, registry = parsed(*opset, **named), ONNXRegistry()
        registry._opset_version = found.opset_version
        registry.functions = {name: list(functions) for name, functions in found.functions.items()}
        return registry

    ONNXRegistry.from_torchlib = staticmethod(from_torchlib)  # type: ignore[method-assign]
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here and in programs that the test starts.

    A job in the background starts with SIGINT ignored, and so would all that it starts: an interrupted program would run for ever.
    A notebook's kernel leaves a handler of its own.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real weights and images, which are not part of the project; tests that want them skip where they are absent."""
    folder = Path(os.environ.get("XAI_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real weights and images at {folder} (set XAI_TEST_DATA)")
    return folder
