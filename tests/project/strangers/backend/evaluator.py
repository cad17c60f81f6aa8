"""A stranger's backend: ONNX's own reference evaluator."""

from collections.abc import Mapping, Sequence

import onnx
from onnx.reference import ReferenceEvaluator

from xai_deploy.backends.backend import Config, Session, Tensor, backends, to_host


@backends.register("evaluator")
class Evaluator:
    """Runs every operator in NumPy: slow, and independent of the runtimes."""

    name = "evaluator"
    version = onnx.__version__

    def __init__(self, config: Config) -> None:
        self.config = config

    def open(self, model: bytes) -> Session:
        """See `Backend.open`."""
        return Opened(model)


class Opened:
    """A graph in the evaluator."""

    def __init__(self, model: bytes) -> None:
        self._evaluator = ReferenceEvaluator(onnx.load_from_string(model))

    def run(self, feeds: Mapping[str, Tensor], fetch: Sequence[str]) -> dict[str, Tensor]:
        """See `Session.run`."""
        arrays = {name: to_host(feeds[name]) for name in self._evaluator.input_names}
        return dict(zip(fetch, self._evaluator.run(list(fetch), arrays), strict=True))
