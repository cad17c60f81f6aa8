"""Every operator of ONNX Runtime's own domain has a rule, or a reason: so that a new version of it is noticed."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from xai_exporters.errors import GraphError
from xai_exporters.passes import codes, qoperator
from xai_exporters.passes.fused_node import OURS, rules
from xai_exporters.passes.supported import require_standard_ops

NOT_HERE = {
    "integers, beyond `qoperator` and `codes`": "QAttention QMoE QLinearReduceMean QLinearWhere "
    "QLinearSoftmax QLinearConcat MulInteger MatMulInteger16 MatMulIntegerToFloat DynamicQuantizeMatMul DynamicQuantizeLSTM "
    "ReduceSumInteger QOrderedAttention QOrderedGelu QOrderedLayerNormalization QOrderedLongformerAttention QOrderedMatMul "
    "QuantizeWithOrder DequantizeWithOrder QuantizeBFP DequantizeBFP",
    "weights in formats that ONNX lacks": "GemmFloat8 MatMulFpQ4 MatMulNBitsMlp MatMulNBitsQkv GatherBlockQuantized "
    "MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight",
    "of language: caches, packed and sparse sequences, sampling": "AttnLSTM BeamSearch CausalConvWithState "
    "DecoderAttention DecoderMaskedSelfAttention DynamicSparseAttention EngramGate GatedDeltaNet "
    "GatedRelativePositionBias GemmaRotaryEmbedding GreedySearch HyperConnectionPostMix HyperConnectionPreMix LinearAttention "
    "LinearAttentionGate LongformerAttention MRotaryEmbedding NGramHashMapping NGramRepeatBlock PackedAttention "
    "PackedMultiHeadAttention PackedSparseAttentionIndexer PagedAttention RelativePositionBias RemovePadding RestorePadding "
    "Sampling SparseAttention SparseAttentionIndexer SparsePagedAttention Tokenizer TorchEmbedding VarlenCausalConvWithState "
    "VarlenNGramHashMapping WhisperBeamSearch WordConvEmbedding BifurcationDetector MoE DynamicTimeWarping MurmurHash3",
    "of GPUs and of one machine": "ComplexMul ComplexMulConj Irfft Rfft EPContext Snpe IsAllFinite",
    "a mask of a pooling, sparse tensors, a number of values that the image decides": "MaxpoolWithMask "
    "SparseToDenseMatMul Unique SampleOp",
}
"""Why an operator is refused by its name -> those operators."""


def _read() -> Iterator[str]:
    """Those that other passes read."""
    yield from ("MatMulNBits", "QuantizeLinear", "DequantizeLinear")
    yield from qoperator._RULES
    assert codes._N_BITS == "MatMulNBits"


def test_every_operator_has_a_rule_or_a_reason() -> None:
    known = {name for text in NOT_HERE.values() for name in text.split()}
    own = {schema.name for schema in runtime.get_all_operator_schema() if schema.domain == OURS}
    ruled = {name for name in own if rules.get(f"{OURS}.{name}")} | (own & set(_read()))
    assert own - ruled - known == set()
    assert known <= own
    assert not {name for name in known if rules.get(f"{OURS}.{name}")}


@pytest.mark.parametrize("name", [text.split()[0] for text in NOT_HERE.values()])
def test_they_are_refused_by_name(name: str) -> None:
    x = ir.Value(name="x")
    node = ir.node(name, [x], domain=OURS, name="odd")
    graph = ir.Graph([x], node.outputs, nodes=[node], opset_imports={"": 18, OURS: 1})
    with pytest.raises(GraphError, match=f"^node 'odd' is com.microsoft.{name}, "):
        require_standard_ops(ir.Model(graph, ir_version=10))
