"""ONNX Runtime: CPU, CUDA and any other execution provider by name.

On the host, inputs and outputs are NumPy arrays. On a device, they are bound (IO binding): a session's outputs stay on the
device and can be fed to the next session without a copy.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BackendNotInstalledError, DeviceError, RuntimeFailure
from ..foundation import exact_onnxruntime, runtimes
from ..foundation.heap import give_back_freed
from .backend import Config, DeviceTensor, HostTensor, Session, Tensor, backends, one_line, to_host

log = logging.getLogger(__name__)

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_REMOTE = "AzureExecutionProvider"  # is in every build; it calls web services and leaves a local graph to the CPU


@backends.register("onnxruntime")
class OnnxRuntime:
    """ONNX Runtime on one execution provider.

    `Config.device` is "cpu", "cuda", "cuda:N", or an execution provider's full name ("TensorrtExecutionProvider").
    Nodes that a provider other than CPU does not support run on the CPU, as always in ONNX Runtime. If the provider itself
    can't be loaded, that is an error.

    Raises:
        BackendNotInstalledError: The package `onnxruntime` is missing.
        DeviceError: The provider is not in this build of ONNX Runtime, does not load, does not compute in the precision,
            or is the CPU's, which takes no properties, and properties are given.
    """

    name = "onnxruntime"

    def __init__(self, config: Config) -> None:
        try:
            ort = runtimes.onnxruntime()
        except ImportError:
            raise BackendNotInstalledError(
                "the backend 'onnxruntime' needs ONNX Runtime; pip install 'xai-deploy[onnxruntime]' (or [gpu])"
            ) from None
        self._ort = ort
        self.version = str(ort.__version__)
        self._config = config
        device, _, index = config.device.partition(":")
        self.provider = _PROVIDERS.get(device.lower(), device)
        self._cuda = self.provider == _PROVIDERS["cuda"]
        self._index = int(index) if index.isdecimal() else 0
        available = [provider for provider in ort.get_available_providers() if provider != _REMOTE]
        # An index is valid only for CUDA, and only if it is written as str() writes it: no "cuda:x", "cuda:01", "cpu:0".
        if self.provider not in available or index != (str(self._index) if self._cuda and index else ""):
            raise DeviceError(
                f"this ONNX Runtime has no device {config.device!r}; it has {', '.join(available)}"
                + ("; CUDA comes with 'xai-deploy[gpu]'" if self._cuda else "")
            )
        if config.properties and self.provider == _PROVIDERS["cpu"]:
            raise DeviceError(
                f"{self.provider} takes no properties, and ONNX Runtime would ignore them; leave them out"
            )
        allowed = ("f32", "tf32") if self._cuda else ("f32",)
        if config.precision not in allowed:
            raise DeviceError(
                f"onnxruntime on {config.device!r} computes in {' or '.join(allowed)}, not {config.precision!r}; "
                "for another precision export a network of that precision"
            )

    def open(self, model: bytes) -> Session:
        """Open a graph; see `Backend.open`."""
        options = self._ort.SessionOptions()
        if self._config.threads is not None:
            options.intra_op_num_threads = self._config.threads
        # The threads of an idle session spin and take the cores of the other sessions (ResNet-18: 53 ms instead of 23).
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Planning which tensors share memory is quadratic in the nodes: 14 s for the gradient of an LSTM of 128 steps, else 1.4 s.
        # ResNet-50's relevance takes 2.6 GB for 8 images either way, and a run as long.
        options.enable_mem_reuse = False
        if self._config.hint == "throughput":
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only
        provider_options: dict[str, str] = {}
        if self._cuda:
            provider_options = {"device_id": str(self._index), "use_tf32": str(int(self._config.precision == "tf32"))}
        provider_options |= self._config.properties
        if self.provider == "TensorrtExecutionProvider" and (cache := self._config.make_cache()):
            provider_options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": cache}
        providers: list[Any] = [(self.provider, provider_options)]
        if self.provider != "CPUExecutionProvider":  # for the nodes that the provider does not support
            providers.append("CPUExecutionProvider")
        try:
            session = exact_onnxruntime.open_exactly(model, options, providers)
        except Exception as error:  # ONNX Runtime raises exception types that it does not document
            raise RuntimeFailure(f"ONNX Runtime can't open the graph on {self.provider}: {one_line(error)}") from error
        # ONNX Runtime only logs that a provider did not load, and goes on with the next one in the list.
        if session.get_providers()[0] != self.provider:
            raise DeviceError(
                f"ONNX Runtime could not load {self.provider} and would have fallen back to "
                f"{session.get_providers()[0]}; check the device's driver and libraries, or give the device 'cpu'"
            )
        # If a run fails, ONNX Runtime would open the graph again on another provider, unsaid. For that alone it keeps the graph's
        # bytes, which are as large as the weights: ResNet-18's head takes 54 MB without them, 99 MB with them.
        session.disable_fallback()
        session._model_bytes = None
        give_back_freed(len(model))
        if self._cuda:
            return BoundSession(session, "cuda", self._index)
        return HostSession(session)


class HostSession:
    """A session whose tensors live in host memory."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = {i.name for i in session.get_inputs()}

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        """See `Session.run`."""
        try:
            arrays = {name: to_host(tensor) for name, tensor in feeds.items() if name in self._inputs}
            results = self._session.run(list(fetch), arrays)
        except Exception as error:
            raise RuntimeFailure(f"ONNX Runtime failed while running a graph: {one_line(error)}") from error
        return dict(zip(fetch, results, strict=True))


class BoundSession:
    """A session whose outputs stay in the memory of device `device`, number `index`."""

    def __init__(self, session: Any, device: str, index: int) -> None:
        self._session = session
        self._place = (device, index)
        self._inputs = {i.name for i in session.get_inputs()}

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        """See `Session.run`."""
        try:
            binding = self._session.io_binding()
            for name, tensor in feeds.items():
                if name not in self._inputs:
                    continue
                if isinstance(tensor, _OnDevice):
                    binding.bind_ortvalue_input(name, tensor.value)
                else:
                    binding.bind_cpu_input(name, to_host(tensor))
            for name in fetch:  # without a buffer: ONNX Runtime allocates each output on the device
                binding.bind_output(name, *self._place)
            self._session.run_with_iobinding(binding)
            values = binding.get_outputs()  # OrtValues on the device, in the order in which they were bound
        except Exception as error:
            raise RuntimeFailure(f"ONNX Runtime failed while running a graph: {one_line(error)}") from error
        return {name: _OnDevice(value) for name, value in zip(fetch, values, strict=True)}


class _OnDevice(DeviceTensor):
    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape())

    def numpy(self) -> HostTensor:
        array: HostTensor = self.value.numpy()
        return array
