"""Networks of torchvision's families, at small inputs; `scripts/check_gradients` checks all of them.

Most are small ones of their family.
"""

from __future__ import annotations

import pytest

from .gradients import TOLERANCE, check

CASES = {
    "resnet18_narrow": 64,
    "mobilenet_v3_tiny": 64,
    "squeezenet1_1": 48,
    "densenet_tiny": 64,
    "googlenet": 48,
    "shufflenet_tiny": 48,
    "efficientnet_tiny": 48,
    "mnasnet0_5": 48,
    "convnext_tiniest": 48,
    "swin_tiny": 64,
    "vit_tiny": 64,
}


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_torch_autograds(case: str) -> None:
    results = check(case, size=CASES[case])
    assert len(results) == 2
    for result in results:
        assert not result.reason
        assert {runtime for runtime, _ in result.errors} == {"onnxruntime", "openvino"}
        assert max(error for _, error in result.errors) <= TOLERANCE, result
