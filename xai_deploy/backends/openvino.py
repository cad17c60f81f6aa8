"""OpenVINO: CPU, GPU, NPU and AUTO.

A symbolic batch costs 1-8 % at batch 1. So each graph is compiled at most twice, each time when first needed: with a
static batch of 1, and with a symbolic batch. A graph that quantises is compiled for one image only, and takes a batch image by
image. Numbers are those of ONNX's definitions: see `foundation.exact_openvino`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendNotInstalledError, DeviceError, RuntimeFailure
from ..foundation import runtimes
from ..foundation.exact_openvino import compiled, compute_exactly, has_cpu, has_one_thread, needs_fixed_sizes
from ..foundation.heap import give_back_freed
from ..foundation.shared_constants import SharedConstants
from .backend import Config, HostTensor, Session, Tensor, backends, one_line, to_host

_PRECISIONS = {"f32": "f32", "f16": "f16", "bf16": "bf16"}


@backends.register("openvino")
class OpenVino:
    """OpenVINO on one device.

    `Config.device` is "cpu", "gpu", "gpu.1", "npu", "auto" or any device string that OpenVINO takes ("MULTI:GPU,CPU").

    Raises:
        BackendNotInstalledError: The package `openvino` is missing.
        DeviceError: The device does not exist here, or does not compute in the precision.
    """

    name = "openvino"

    def __init__(self, config: Config) -> None:
        try:
            openvino = runtimes.openvino()
        except ImportError:
            raise BackendNotInstalledError(
                "the backend 'openvino' needs OpenVINO; pip install 'xai-deploy[openvino]'"
            ) from None
        self._ov = openvino
        self.version = str(openvino.__version__)
        self._core = openvino.Core()
        self._device = config.device.upper()
        if config.precision not in _PRECISIONS:
            raise DeviceError(f"openvino computes in {', '.join(_PRECISIONS)}, not {config.precision!r}")
        available = ["CPU"] if self._device == "CPU" and has_cpu(self._core) else self._core.available_devices
        kind, _, members = self._device.partition(":")
        # "MULTI:GPU(2),CPU" names members with a number of requests, "AUTO:-CPU" excludes a member: keep the names.
        wanted = [m.partition("(")[0].lstrip("-") for m in members.split(",")] if members else [kind]
        for one in wanted:
            if one not in ("AUTO", "MULTI", "HETERO") and not any(
                a == one or a.startswith(f"{one}.") for a in available
            ):
                raise DeviceError(f"this OpenVINO has no device {config.device!r}; it has {', '.join(available)}")
        virtual = any(one in ("AUTO", "MULTI", "HETERO") for one in wanted)
        real = {a.partition(".")[0] for a in available}
        compute_exactly(self._core, (r for r in real if virtual or any(one.partition(".")[0] == r for one in wanted)))
        self._properties: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[config.precision],
            "PERFORMANCE_HINT": config.hint.upper(),
        }
        if config.threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = config.threads
        if cache := config.make_cache():  # OpenVINO's key of a compiled network leaves out what `compute_exactly` sets
            self._properties["CACHE_DIR"] = str(Path(cache) / "exact")
        self._properties |= config.properties  # last: the user's properties replace those above
        self._one_thread = has_one_thread(self._core, self._properties)
        # With a cache OpenVINO reads what it compiled, constants among it. Other devices have a memory of their own.
        alone = self._device != "CPU" or "CACHE_DIR" in self._properties
        self._constants = None if alone else SharedConstants(openvino)

    def open(self, model: bytes) -> Session:
        """Open a graph; see `Backend.open`."""
        try:
            network = self._core.read_model(io.BytesIO(model))
            weights = [] if self._constants is None else self._constants.share(network)
        except Exception as error:
            raise RuntimeFailure(f"OpenVINO can't read the graph: {one_line(error)}") from error
        session = OpenVinoSession(
            self._ov, self._core, network, self._device, self._properties, self._one_thread, len(model)
        )
        session.weights = weights
        return session


class OpenVinoSession:
    """One graph, compiled when it is first run; each thread has its own infer requests.

    Attributes:
        weights: Tensors that other graphs may share.
    """

    weights: Sequence[Any] = ()

    def __init__(
        self, ov: Any, core: Any, network: Any, device: str, properties: Mapping[str, Any], one_thread: bool, size: int
    ) -> None:
        self._ov, self._core, self._network, self._one_thread = ov, core, network, one_thread
        self._device, self._properties, self._size = device, dict(properties), size
        self._one_by_one = needs_fixed_sizes(network)
        self._inputs = {name for port in network.inputs for name in port.get_names()}
        self._compiled: dict[bool, Any] = {}
        self._lock = threading.Lock()
        self._requests = threading.local()

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        """See `Session.run`."""
        # OpenVINO reads an array's memory in place, so it must be C-contiguous, aligned and writeable; any other is copied.
        arrays = {
            name: np.require(to_host(tensor), requirements=["C", "A", "W", "E"]) for name, tensor in feeds.items()
        }
        if not self._one_by_one:
            return self._run(arrays, fetch)
        arrays = {name: array for name, array in arrays.items() if name in self._inputs}
        counts = {array.shape[:1] for array in arrays.values()}
        if counts == {(1,)} or not counts:
            return self._run(arrays, fetch)
        if len(counts) > 1 or counts == {()}:
            raise RuntimeFailure("OpenVINO failed while running a graph: its inputs hold different numbers of images")
        [(count,)] = counts
        rows = [self._run({name: array[i : i + 1] for name, array in arrays.items()}, fetch) for i in range(count)]
        return {name: np.concatenate([to_host(row[name]) for row in rows]) for name in fetch}

    def _run(self, arrays: Mapping[str, HostTensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        request = self._request(all(array.shape[:1] == (1,) for array in arrays.values()))
        try:
            return request.run(arrays, fetch)
        except Exception as error:
            raise RuntimeFailure(f"OpenVINO failed while running a graph: {one_line(error)}") from error

    def _request(self, single: bool) -> _Request:
        """This thread's infer request for a batch of one, or of any size."""
        requests: dict[bool, _Request] = self._requests.__dict__.setdefault("by_batch", {})
        if single not in requests:
            with self._lock:  # only compiling is shared; a request belongs to its thread
                if single not in self._compiled:
                    self._compiled[single] = self._compile(single)
            requests[single] = _Request(self._ov, self._compiled[single])
        return requests[single]

    def _compile(self, single: bool) -> Any:
        network = self._network
        try:
            if single:
                network = network.clone()
                shapes = {port: port.get_partial_shape() for port in network.inputs}
                for shape in shapes.values():  # the batch is every input's first dimension
                    shape[0] = 1
                network.reshape(shapes)
            opened = compiled(self._core, network, self._device, self._properties, self._one_thread)
            precisions = _precisions(opened)
        except Exception as error:
            raise RuntimeFailure(f"OpenVINO can't compile the graph for {self._device}: {one_line(error)}") from error
        wanted = self._properties["INFERENCE_PRECISION_HINT"]
        if precisions != {wanted}:
            raise DeviceError(
                f"OpenVINO on {self._device} computes in {' and '.join(sorted(precisions))} instead of {wanted!r}; "
                "give a precision that the device has"
            )
        give_back_freed(self._size)
        return opened


class _Request:
    """One infer request. If all output shapes are static, it writes into new arrays directly, which saves copying activations."""

    def __init__(self, ov: Any, compiled: Any) -> None:
        self._tensor = ov.Tensor
        self._request = compiled.create_infer_request()
        self._inputs = {name for port in compiled.inputs for name in port.get_names()}
        self._count = len(compiled.inputs)
        ports = [(port.get_any_name(), port) for port in compiled.outputs]
        self._static = all(port.get_partial_shape().is_static for _, port in ports)
        self._outputs = [(n, tuple(p.shape), p.element_type.to_dtype()) for n, p in ports] if self._static else []
        # A port may have several tensor names: any of them -> the name under which the output is written.
        self._aliases = {name: port.get_any_name() for _, port in ports for name in port.get_names()}

    def run(self, arrays: Mapping[str, HostTensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        """Run once; `arrays` are contiguous."""
        used = {name: array for name, array in arrays.items() if name in self._inputs}
        if len(used) < self._count:  # without an input, OpenVINO would compute with arbitrary memory
            raise ValueError(f"it needs the inputs {', '.join(sorted(self._inputs))}")
        for name, array in used.items():
            self._request.set_tensor(name, self._tensor(array, shared_memory=True))
        results = {name: np.empty(shape, dtype) for name, shape, dtype in self._outputs}
        for name, result in results.items():
            self._request.set_tensor(name, self._tensor(result, shared_memory=True))
        self._request.infer(share_outputs=True)
        if self._static:
            return {name: results[self._aliases[name]] for name in fetch}
        # A view of the request's own memory, which the next run overwrites: hence the copy.
        return {name: self._request.get_tensor(name).data.copy() for name in fetch}


def _precisions(compiled: Any) -> set[str]:
    """The precisions that a compiled graph really uses: a plugin silently replaces a precision that it lacks."""
    key = "INFERENCE_PRECISION_HINT"
    if key in compiled.get_property("SUPPORTED_PROPERTIES"):
        return {compiled.get_property(key).get_type_name()}
    # AUTO, MULTI and HETERO have no such property of their own, but give those of their member devices.
    devices = compiled.get_property("DEVICE_PROPERTIES")
    return {properties[key].get_type_name() for properties in devices.values()}
