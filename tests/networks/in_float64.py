"""A runtime in float64: onnx's reference evaluator, as the backend "float64" of an Explainer. For measurements only; it is slow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from xai_deploy.backends.backend import Config, HostTensor, Tensor, backends, to_host

from ..exporters.vjp.harness import to_float64
from ..exporters.vjp.references import REFERENCES

NAME = "float64"


@backends.register(NAME)
class Float64:
    """Every float32 of a graph in double precision."""

    name = NAME
    version = onnx.__version__

    def __init__(self, config: Config) -> None:
        pass

    def open(self, model: bytes) -> Exact:
        return Exact(ReferenceEvaluator(to_float64(onnx.load_model_from_string(model)), new_ops=REFERENCES))


class Exact:
    def __init__(self, evaluator: Any) -> None:
        self._evaluator = evaluator

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        given = {name: _wide(to_host(value)) for name, value in feeds.items() if name in self._evaluator.input_names}
        return dict(zip(fetch, self._evaluator.run(list(fetch), given), strict=True))


def _wide(value: HostTensor) -> HostTensor:
    return value.astype(np.float64) if value.dtype == np.float32 else value
