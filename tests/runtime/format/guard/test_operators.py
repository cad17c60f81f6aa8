"""The table of operators is the one of the package `onnx`; each has a rule for its sizes."""

from __future__ import annotations

import onnx.defs
import pytest
from xai_exporters.relevance.table import relevance
from xai_exporters.vjp.table import vjp

from xai_deploy.format.guard.operators import FIRST_OPSET, LAST_OPSET, MANY, OPERATORS, arity
from xai_deploy.format.guard.shapes import rules

_LEFT_OUT = """
    If Loop Scan Optional OptionalGetElement OptionalHasElement ConcatFromSequence SplitToSequence RegexFullMatch TfIdfVectorizer
    ImageDecoder RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial NegativeLogLikelihoodLoss
    SoftmaxCrossEntropyLoss STFT MelWeightMatrix LinearAttention CausalConvWithState BitCast
"""


def test_table_is_onnx_s() -> None:
    assert onnx.defs.onnx_opset_version() == LAST_OPSET
    schemas = onnx.defs.get_all_schemas_with_history()
    names = {schema.name for schema in schemas if schema.domain == ""}
    allowed = {name for name in names if not name.startswith(("Sequence", "String")) and name not in _LEFT_OUT.split()}
    assert set(OPERATORS) == allowed
    for name in sorted(allowed):
        for opset in range(FIRST_OPSET, LAST_OPSET + 1):
            try:
                schema = onnx.defs.get_schema(name, opset, "")
            except onnx.defs.SchemaError:
                assert arity(name, opset) is None
                continue
            counts = schema.min_input, schema.max_input, schema.min_output, schema.max_output
            bounded = tuple(min(count, MANY) for count in counts)
            assert arity(name, opset) == (None if schema.deprecated else bounded), (name, opset)


def test_every_operator_has_a_rule_for_sizes() -> None:
    assert set(rules) == set(OPERATORS)


@pytest.mark.parametrize("table", [vjp, relevance])
def test_what_exporters_know_is_allowed(table: dict[str, object]) -> None:
    assert set(table) <= set(OPERATORS)
