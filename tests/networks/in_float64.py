"""Onnx's reference evaluator as a backend of an Explainer: "float64"; "as-defined", in the types of the file; and "moved-scales".
For measurements only; it is slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from xai_exporters.bundle.moved import with_moved_scales

from xai_deploy.backends.backend import Config, HostTensor, Tensor, backends, to_host

from ..exporters.vjp.harness import to_float64
from ..exporters.vjp.references import REFERENCES

NAME, DEFINED, MOVED = "float64", "as-defined", "moved-scales"


@backends.register(NAME)
class Float64:
    """Every float32 of a graph in double precision."""

    name = NAME
    version = onnx.__version__

    def __init__(self, config: Config) -> None:
        pass

    def open(self, model: bytes) -> Exact:
        return Exact(ReferenceEvaluator(to_float64(_with_quantisers(model)), new_ops=REFERENCES))


@backends.register(DEFINED)
class Defined:
    """Every operator in its own types, as ONNX defines it."""

    name = DEFINED
    version = onnx.__version__

    def __init__(self, config: Config) -> None:
        pass

    def open(self, model: bytes) -> Exact:
        return Exact(ReferenceEvaluator(_with_quantisers(model), new_ops=REFERENCES), wide=False)


@backends.register(MOVED)
class Moved(Defined):
    """The same with every quantiser's scale moved by one rounding: what float32 leaves open."""

    name = MOVED

    def open(self, model: bytes) -> Exact:
        return super().open(with_moved_scales(model, 0))


def _with_quantisers(model: bytes) -> onnx.ModelProto:
    """The graph at opset 19 at least, from which on the evaluator has quantisers; they mean the same."""
    proto = onnx.load_model_from_string(model)
    for imported in proto.opset_import:
        imported.version = max(imported.version, 19) if not imported.domain else imported.version
    return proto


class Exact:
    def __init__(self, evaluator: Any, wide: bool = True) -> None:
        self._evaluator, self._given = evaluator, _wide if wide else _same

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        given = {
            name: self._given(to_host(value)) for name, value in feeds.items() if name in self._evaluator.input_names
        }
        return dict(zip(fetch, self._evaluator.run(list(fetch), given), strict=True))


def _wide(value: HostTensor) -> HostTensor:
    return value.astype(np.float64) if value.dtype == np.float32 else value


def _same(value: HostTensor) -> HostTensor:
    return value
