"""A stranger's named rule."""

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from xai_exporters.backward.rules import Result, Step
from xai_exporters.graph.emit import Ops
from xai_exporters.relevance.named_rules import rules


@rules.register("keep")
@dataclass(frozen=True)
class Keep:
    """R_in = share * R: the rest is lost."""

    share: float = 0.5

    kinds: ClassVar[tuple[str, ...]] = ("Relu",)

    def __call__(self, op: Ops, step: Step, r: ir.Value, *_: ir.Value | None) -> Result:
        return op.Mul(r, self.share)
