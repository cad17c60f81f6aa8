"""The table of relevance beside that of gradients: no operator has the one without the other; each runs everywhere."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from xai_exporters.relevance.table import relevance
from xai_exporters.vjp.table import vjp

from ..vjp.harness import Case, forward_model
from ..vjp.test_table import APART, LACKING, cases
from .layers import WEIGHTED
from .running import Relevance


def test_every_operator_with_a_gradient_has_relevance() -> None:
    assert set(vjp) == set(relevance)


def test_what_stops_gradients_has_no_rule() -> None:
    """Relevance stops there, too: a rule would never be asked."""
    for op in relevance:
        assert not vjp.stops(ir.node(op, []).outputs[0], ())


FIRST = {case.op: case for case in reversed(cases())}


@pytest.mark.parametrize("op", sorted(set(vjp) - APART))
def test_every_operator_runs(op: str) -> None:
    """One case of each: finite numbers in float64, the same on both runtimes."""
    case: Case = FIRST[op]
    target = f"x{case.free[0]}"
    skip = [name for name in LACKING if name in case.skip]
    ready = Relevance(forward_model(case), targets=(target,), skip=skip)
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        feeds = case.sample(batch, rng)
        y = ready.forward(feeds)
        feeds["r"] = rng.standard_normal(y.shape).astype(np.float32).astype(np.float64) * np.abs(y)
        want = ready.exact(feeds)[f"0/{target}"]
        assert want.shape == feeds[target].shape
        assert np.isfinite(want).all()
        if op in WEIGHTED:  # signed weights: what divides by nearly 0 is left out in test_layers, by the layer's matrix
            continue
        for runtime in ready.runtimes:
            got = ready.on(runtime, feeds)[f"0/{target}"]
            np.testing.assert_allclose(
                got, want, rtol=0, atol=1e-4 * max(np.abs(want).max(initial=0), 1e-3), err_msg=runtime
            )
