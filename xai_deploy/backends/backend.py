"""The protocol that every runtime implements: a backend opens ONNX bytes as a session, a session maps tensors to tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, BackendNotInstalledError, DeviceError, UnknownBackendError
from ..foundation.registry import Registry

HostTensor: TypeAlias = NDArray[Any]
Precision = Literal["f32", "tf32", "f16", "bf16"]
Hint = Literal["latency", "throughput"]


@runtime_checkable
class DeviceTensor(Protocol):
    """A tensor that a session left in the device's memory; `numpy()` copies it to the host."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def numpy(self) -> HostTensor: ...


Tensor: TypeAlias = HostTensor | DeviceTensor


def one_line(error: Exception) -> str:
    """A runtime's error message, with every run of whitespace (so also line breaks) as one space."""
    return " ".join(str(error).split())


def to_host(tensor: Tensor) -> HostTensor:
    """The tensor as a NumPy array."""
    return tensor if isinstance(tensor, np.ndarray) else tensor.numpy()


@dataclass(frozen=True)
class Config:
    """How a backend runs.

    Attributes:
        device: "cpu", "cuda", "cuda:1", "gpu", "npu", "auto", or a name that only this runtime knows.
        precision: Arithmetic on the device. The default is "f32", because runtimes' own defaults may be TF32, bf16 or f16.
        threads: Intra-operator threads; None keeps the runtime's default.
        cache: Folder for compiled models, if the runtime has such a cache.
        hint: "latency" or "throughput".
        properties: Passed to the runtime as they are.

    Raises:
        DeviceError: The device is not text, or the precision or hint does not exist.
        BackendError: The properties are not a mapping; from `make_cache`, the cache's folder can't be made.
    """

    device: str = "cpu"
    precision: Precision = "f32"
    threads: int | None = None
    cache: str | None = None
    hint: Hint = "latency"
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.device, str):
            raise DeviceError(f"a device is a name such as 'cpu', not {self.device!r}")
        for what, value, known in (
            ("precision", self.precision, get_args(Precision)),
            ("hint", self.hint, get_args(Hint)),
        ):
            if value not in known:
                raise DeviceError(f"no {what} {value!r}; there are {', '.join(known)}")
        if not isinstance(self.properties, Mapping):
            raise BackendError(f"properties map names to values, not {self.properties!r}")

    def make_cache(self) -> str | None:
        """Make the folder for compiled models and return its path; None if the user wants no cache."""
        if self.cache is not None:
            try:
                Path(self.cache).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BackendError(f"{self.cache}: can't be the cache's folder ({error.strerror})") from None
        return self.cache


class Session(Protocol):
    """One opened graph. `run` may be called from several threads at once."""

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        """Run the graph.

        Args:
            feeds: Every input by name; the first dimension is the batch. Inputs that the graph ignores are dropped.
            fetch: Names of the outputs wanted.

        Returns:
            The outputs, in host memory, or on the device if the runtime keeps them there.

        Raises:
            RuntimeFailure: The runtime failed.
        """
        ...


class Backend(Protocol):
    """A runtime on a device.

    Attributes:
        name: The name under which it is registered.
        version: The runtime's version, as its package gives it.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def open(self, model: bytes) -> Session:
        """Open a graph from the bytes of an ONNX file.

        Raises:
            DeviceError: The device can't be used.
            RuntimeFailure: The runtime refuses the graph.
        """
        ...


Factory = Callable[[Config], Backend]
backends: Registry[Factory] = Registry(__package__)


def create(name: str | None, config: Config) -> Backend:
    """The backend `name`; None takes the first one whose runtime is installed.

    Raises:
        UnknownBackendError: No backend has this name.
        BackendNotInstalledError: Its runtime is not installed.
        DeviceError: The device does not exist here.
    """
    if name is None:
        for candidate in backends:
            try:
                return create(candidate, config)
            except BackendNotInstalledError:
                continue
        raise BackendNotInstalledError(
            "no inference runtime is installed; pip install 'xai-deploy[onnxruntime]' or 'xai-deploy[openvino]'"
        )
    factory = backends.get(name)
    if factory is None:
        raise UnknownBackendError(f"no backend {name!r}; there are {', '.join(backends)}")
    return factory(config)
