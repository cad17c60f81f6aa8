"""The installed runtimes: as the engine opens a graph, and as a program does by default, which changes numbers of some networks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xai_deploy.foundation import runtimes
from xai_deploy.foundation.exact_openvino import compiled, compute_exactly, has_one_thread, needs_fixed_sizes

from ..errors import GraphError
from ..graph.measure import OnnxFile, open_session, openable, run, without_path

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Function: TypeAlias = Callable[[Arrays], dict[str, NDArray[Any]]]
Open: TypeAlias = Callable[[OnnxFile, str], Function]


@dataclass(frozen=True)
class Runtime:
    """A runtime on the CPU.

    Attributes:
        name: Its name and version.
        opened: Opens a graph as the backend does: numbers as ONNX defines them.
        plain: Gives what opens a graph as a program does by default, but in float32; True: one that takes a single image.
        ours: What the backend does otherwise, as half a sentence.
        right_with: The settings with which a program gets ONNX's numbers.
    """

    name: str
    opened: Open
    plain: Callable[[bool], Open]
    ours: str
    right_with: str


def installed() -> Iterator[Runtime]:
    """Every runtime that is installed, ONNX Runtime first."""
    yield Runtime(
        f"ONNX Runtime {runtimes.onnxruntime().__version__}",
        _onnxruntime,
        lambda fixed: _plain_onnxruntime,
        "we switch off what rounds float weights and the inputs of layers, what merges two roundings, and sums of 16 bits, which "
        "saturate on processors without VNNI",
        "disabled_optimizers WeightBiasQuantization and DoubleQDQPairsRemover, session.qdq_matmulnbits_accuracy_level 1, and "
        "session.x64quantprecision 1",
    )
    try:
        version = runtimes.openvino().__version__.partition("-")[0]
    except ImportError:
        return
    yield Runtime(
        f"OpenVINO {version}",
        _openvino,
        lambda fixed: functools.partial(_plain_openvino, fixed=fixed),
        "we open it image by image, and without its low-precision transformations",
        "LP_TRANSFORMS_MODE NO and a batch of 1",
    )


def exactly(model: OnnxFile, what: str) -> Function:
    """ONNX Runtime, operator by operator: QuantizeLinear and DequantizeLinear as ONNX defines them, floats in between."""
    return _function(open_session(model, what), what)


def _onnxruntime(model: OnnxFile, what: str) -> Function:
    return _function(open_session(model, what, optimise=True), what)


def _plain_onnxruntime(model: OnnxFile, what: str) -> Function:
    return _function(open_session(model, what, optimise=True, exact=False), what)


def _function(session: Any, what: str) -> Function:
    names = {source.name for source in session.get_inputs()}
    return lambda feeds: run(session, {n: feeds[n] for n in names}, what)


def _openvino(model: OnnxFile, what: str) -> Function:
    """A graph that quantises runs image by image."""
    core, network = _read(model, what, exact=True)
    compute_exactly(core, ["CPU"])
    one = needs_fixed_sizes(network)
    if one:
        _take_one(network)
    function = _compiled(core, network, what)
    if not one:
        return function

    def by_image(feeds: Arrays) -> dict[str, NDArray[Any]]:
        used = {name for port in network.inputs for name in port.names} & feeds.keys()
        rows = [
            function({name: feeds[name][i : i + 1] for name in used})
            for i in range(max(len(feeds[name]) for name in used))
        ]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return by_image


def _plain_openvino(model: OnnxFile, what: str, fixed: bool) -> Function:
    core, network = _read(model, what, exact=False)
    if fixed:
        _take_one(network)
    return _compiled(core, network, what)


def _take_one(network: Any) -> None:
    network.reshape({port: [1, *port.partial_shape[1:]] for port in network.inputs})


def _read(model: OnnxFile, what: str, exact: bool) -> tuple[Any, Any]:
    """A core, and the graph as it reads it."""
    core = _core(runtimes.openvino().Core, exact)
    try:
        return core, core.read_model(openable(model))
    except Exception as error:  # the runtime's exception types are not documented
        raise GraphError(f"OpenVINO can't open {what}: {_short(error, model)}") from None


def _compiled(core: Any, network: Any, what: str) -> Function:
    try:
        opened = compiled(core, network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}, has_one_thread(core, {}))
    except Exception as error:
        raise GraphError(f"OpenVINO can't open {what}: {_short(error, b'')}") from None
    names = {name for port in opened.inputs for name in port.names}

    def function(feeds: Arrays) -> dict[str, NDArray[Any]]:
        try:
            results = opened({name: value for name, value in feeds.items() if name in names})
        except Exception as error:
            raise GraphError(f"OpenVINO can't run {what}: {_short(error, b'')}") from None
        return {name: np.array(results[port]) for port in opened.outputs for name in port.names}

    return function


@functools.lru_cache(maxsize=2)
def _core(make: Callable[[], Any], exact: bool) -> Any:
    """One core for all graphs: a new one loads the plugin of the CPU again, a tenth of the time of opening a small graph.

    Args:
        make: `openvino.Core`.
        exact: One that computes exactly is another one, since its properties stay.
    """
    return make()


def _short(error: Exception, model: OnnxFile) -> str:
    return " ".join(without_path(str(error), model).split())[:300]
