"""A graph that a runtime has prepared, prepared once for all exports that write the same bytes, and for all engines that open them.

OpenVINO takes 20 to 60 ms of processor time however small a graph is, a third of an export's, and ONNX Runtime 5 to 10 ms, 20 times
in an export; running it takes 1 ms, and is done anew each time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from xai_deploy.foundation import exact_openvino

_LARGEST = 4 << 20
"""Bytes of a graph that is kept, at most."""
_KEPT = 64


def compile_once(installed: Any) -> None:
    """Let `installed._openvino` keep what it compiled last.

    The key is all that the result depends on: the graph's bytes, its name in messages, and the functions and the class that
    compile it, which a test may have replaced. What OpenVINO can't open is tried again.

    Args:
        installed: The module `xai_exporters.bundle.installed`.
    """
    kept: OrderedDict[Any, Any] = OrderedDict()
    compiled = installed._openvino

    def opened(model: bytes | Path, what: str) -> Callable[..., Any]:
        content = model.read_bytes() if isinstance(model, Path) else model
        if len(content) > _LARGEST or b"location" in content:  # external data: the weights lie beside it
            return compiled(model, what)  # type: ignore[no-any-return]
        by = (installed.compiled, installed.compute_exactly, installed.has_one_thread, installed.needs_fixed_sizes)
        key = (hashlib.sha256(content).digest(), what, *by, installed.runtimes.openvino().Core)
        found: Callable[..., Any] = _once(kept, key, lambda: compiled(model, what))
        return found

    installed._openvino = opened


def open_once(measure: Any) -> None:
    """Let `measure.open_session` keep the exact sessions that it opened last.

    The key is all that the result depends on, as above: the graph's bytes, whether it is optimised, and what opens it. A session
    keeps nothing of its runs.

    Args:
        measure: The module `xai_exporters.graph.measure`.
    """
    kept: OrderedDict[Any, Any] = OrderedDict()
    exact = measure.exact_onnxruntime

    def opened(model: bytes | str, options: Any, providers: list[Any]) -> Any:
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        if len(content) > _LARGEST or b"location" in content:
            return exact.open_exactly(model, options, providers)
        by = (options.graph_optimization_level, exact.open_exactly, measure.runtimes.onnxruntime().InferenceSession)
        key = (hashlib.sha256(content).digest(), *by)
        return _once(kept, key, lambda: exact.open_exactly(model, options, providers))

    measure.exact_onnxruntime = SimpleNamespace(open_exactly=opened)


def share_compiled(backend: Any) -> None:
    """Let sessions of the backend take what another session has compiled, each with requests of its own.

    The key is all that the result depends on, as above. With a cache of OpenVINO's own each compiles for itself.

    Args:
        backend: The module `xai_deploy.backends.openvino`.
    """
    kept: OrderedDict[Any, Any] = OrderedDict()
    open_graph, compile_graph = backend.OpenVino.open, backend.OpenVinoSession._compile

    def opened(self: Any, model: bytes) -> Any:
        session = open_graph(self, model)
        if len(model) <= _LARGEST // 4 and "CACHE_DIR" not in self._properties:
            session.content = hashlib.sha256(model).digest()
        return session

    def compiled(self: Any, single: bool) -> Any:
        if not hasattr(self, "content"):
            return compile_graph(self, single)
        by = (backend.compiled, backend.compute_exactly, backend.needs_fixed_sizes, repr(exact_openvino._OFF))
        properties = tuple(sorted((name, str(value)) for name, value in self._properties.items()))
        key = (self.content, single, self._device, properties, self._one_thread, *by, type(self._core))
        # the constants of a compiled graph lie in the weights of the session that compiled it
        return _once(kept, key, lambda: (compile_graph(self, single), self.weights))[0]

    backend.OpenVino.open, backend.OpenVinoSession._compile = opened, compiled


def _once(kept: OrderedDict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """What is kept under the key, or else is made now; those that were not used for longest go."""
    found = kept[key] if key in kept else make()
    kept[key] = found
    kept.move_to_end(key)
    if len(kept) > _KEPT:
        kept.popitem(last=False)
    return found
