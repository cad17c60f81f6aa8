"""The operators that a graph may hold, and how many inputs and outputs each takes.

They are ONNX's standard operators without control flow, sequences, optionals, texts, random numbers (a map would differ each time),
losses, image files and audio. A test compares the table with the package `onnx`.
"""

from __future__ import annotations

FIRST_OPSET, LAST_OPSET = 7, 28

# A line is an operator, then OPSET:INPUTS>OUTPUTS, which holds from that opset on. INPUTS and OUTPUTS are the fewest and the most,
# and * is any number. x: the operator is not allowed from that opset on.
_TABLE = """
Abs 7:1-1>1-1
Acos 7:1-1>1-1
Acosh 9:1-1>1-1
Add 7:2-2>1-1
AffineGrid 20:2-2>1-1
And 7:2-2>1-1
ArgMax 7:1-1>1-1
ArgMin 7:1-1>1-1
Asin 7:1-1>1-1
Asinh 9:1-1>1-1
Atan 7:1-1>1-1
Atanh 9:1-1>1-1
Attention 23:3-6>1-4 24:3-7>1-4
AveragePool 7:1-1>1-1
BatchNormalization 7:5-5>1-5 14:5-5>1-3
BitShift 11:2-2>1-1
BitwiseAnd 18:2-2>1-1
BitwiseNot 18:1-1>1-1
BitwiseOr 18:2-2>1-1
BitwiseXor 18:2-2>1-1
BlackmanWindow 17:1-1>1-1
Cast 7:1-1>1-1
CastLike 15:2-2>1-1
Ceil 7:1-1>1-1
Celu 12:1-1>1-1
CenterCropPad 18:2-2>1-1
Clip 7:1-1>1-1 11:1-3>1-1
Col2Im 18:3-3>1-1
Compress 9:2-2>1-1
Concat 7:1-*>1-1
Constant 7:0-0>1-1
ConstantOfShape 9:1-1>1-1
Conv 7:2-3>1-1
ConvInteger 10:2-4>1-1
ConvTranspose 7:2-3>1-1
Cos 7:1-1>1-1
Cosh 9:1-1>1-1
CumProd 26:2-2>1-1
CumSum 11:2-2>1-1
DFT 17:1-2>1-1 20:1-3>1-1
DeformConv 19:3-5>1-1
DepthToSpace 7:1-1>1-1
DequantizeLinear 10:2-3>1-1
Det 11:1-1>1-1
Div 7:2-2>1-1
Dropout 7:1-1>1-2 12:1-3>1-2
DynamicQuantizeLinear 11:1-1>3-3
Einsum 12:1-*>1-1
Elu 7:1-1>1-1
Equal 7:2-2>1-1
Erf 9:1-1>1-1
Exp 7:1-1>1-1
Expand 8:2-2>1-1
EyeLike 9:1-1>1-1
Flatten 7:1-1>1-1
Floor 7:1-1>1-1
GRU 7:3-6>0-2
Gather 7:2-2>1-1
GatherElements 11:2-2>1-1
GatherND 11:2-2>1-1
Gelu 20:1-1>1-1
Gemm 7:3-3>1-1 11:2-3>1-1
GlobalAveragePool 7:1-1>1-1
GlobalLpPool 7:1-1>1-1
GlobalMaxPool 7:1-1>1-1
Greater 7:2-2>1-1
GreaterOrEqual 12:2-2>1-1
GridSample 16:2-2>1-1
GroupNormalization 18:x 21:3-3>1-1
HammingWindow 17:1-1>1-1
HannWindow 17:1-1>1-1
HardSigmoid 7:1-1>1-1
HardSwish 14:1-1>1-1
Hardmax 7:1-1>1-1
Identity 7:1-1>1-1
InstanceNormalization 7:3-3>1-1
IsInf 10:1-1>1-1
IsNaN 9:1-1>1-1
LRN 7:1-1>1-1
LSTM 7:3-8>0-3
LayerNormalization 17:2-3>1-3
LeakyRelu 7:1-1>1-1
Less 7:2-2>1-1
LessOrEqual 12:2-2>1-1
Log 7:1-1>1-1
LogSoftmax 7:1-1>1-1
LpNormalization 7:1-1>1-1
LpPool 7:1-1>1-1
MatMul 7:2-2>1-1
MatMulInteger 10:2-4>1-1
Max 7:1-*>1-1
MaxPool 7:1-1>1-1 8:1-1>1-2
MaxRoiPool 7:2-2>1-1
MaxUnpool 9:2-3>1-1
Mean 7:1-*>1-1
MeanVarianceNormalization 9:1-1>1-1
Min 7:1-*>1-1
Mish 18:1-1>1-1
Mod 10:2-2>1-1
Mul 7:2-2>1-1
Neg 7:1-1>1-1
NonMaxSuppression 10:2-5>1-1
NonZero 9:1-1>1-1
Not 7:1-1>1-1
OneHot 9:3-3>1-1
Or 7:2-2>1-1
PRelu 7:2-2>1-1
Pad 7:1-1>1-1 11:2-3>1-1 18:2-4>1-1
Pow 7:2-2>1-1
QLinearConv 10:8-9>1-1
QLinearMatMul 10:8-8>1-1
QuantizeLinear 10:2-3>1-1
RMSNormalization 23:2-2>1-1
RNN 7:3-6>0-2
Range 11:3-3>1-1
Reciprocal 7:1-1>1-1
ReduceL1 7:1-1>1-1 18:1-2>1-1
ReduceL2 7:1-1>1-1 18:1-2>1-1
ReduceLogSum 7:1-1>1-1 18:1-2>1-1
ReduceLogSumExp 7:1-1>1-1 18:1-2>1-1
ReduceMax 7:1-1>1-1 18:1-2>1-1
ReduceMean 7:1-1>1-1 18:1-2>1-1
ReduceMin 7:1-1>1-1 18:1-2>1-1
ReduceProd 7:1-1>1-1 18:1-2>1-1
ReduceSum 7:1-1>1-1 13:1-2>1-1
ReduceSumSquare 7:1-1>1-1 18:1-2>1-1
Relu 7:1-1>1-1
Reshape 7:2-2>1-1
Resize 10:2-2>1-1 11:3-4>1-1 13:1-4>1-1
ReverseSequence 10:2-2>1-1
RoiAlign 10:3-3>1-1
RotaryEmbedding 23:3-4>1-1
Round 11:1-1>1-1
Scatter 9:3-3>1-1 11:x
ScatterElements 11:3-3>1-1
ScatterND 11:3-3>1-1
Selu 7:1-1>1-1
Shape 7:1-1>1-1
Shrink 9:1-1>1-1
Sigmoid 7:1-1>1-1
Sign 9:1-1>1-1
Sin 7:1-1>1-1
Sinh 9:1-1>1-1
Size 7:1-1>1-1
Slice 7:1-1>1-1 10:3-5>1-1
Softmax 7:1-1>1-1
Softplus 7:1-1>1-1
Softsign 7:1-1>1-1
SpaceToDepth 7:1-1>1-1
Split 7:1-1>1-* 13:1-2>1-*
Sqrt 7:1-1>1-1
Squeeze 7:1-1>1-1 13:1-2>1-1
Sub 7:2-2>1-1
Sum 7:1-*>1-1
SwiGLU 28:2-2>1-1
Swish 24:1-1>1-1
Tan 7:1-1>1-1
Tanh 7:1-1>1-1
TensorScatter 24:2-3>1-1
ThresholdedRelu 10:1-1>1-1
Tile 7:2-2>1-1
TopK 7:1-1>2-2 10:2-2>2-2
Transpose 7:1-1>1-1
Trilu 14:1-2>1-1
Unique 11:1-1>1-4
Unsqueeze 7:1-1>1-1 13:2-2>1-1
Upsample 7:1-1>1-1 9:2-2>1-1 10:x
Where 9:3-3>1-1
Xor 7:2-2>1-1
"""

MANY = 1 << 20  # stands for "any number"
Arity = tuple[int, int, int, int]  # fewest and most inputs, fewest and most outputs


def _read() -> dict[str, list[tuple[int, Arity | None]]]:
    table: dict[str, list[tuple[int, Arity | None]]] = {}
    for line in _TABLE.strip().splitlines():
        op, *entries = line.split()
        table[op] = []
        for entry in entries:
            since, _, counts = entry.partition(":")
            numbers = counts.replace(">", "-").replace("*", str(MANY)).split("-")
            arity = None if counts == "x" else (int(numbers[0]), int(numbers[1]), int(numbers[2]), int(numbers[3]))
            table[op].append((int(since), arity))
    return table


OPERATORS = _read()


def arity(op: str, opset: int) -> Arity | None:
    """How many inputs and outputs an operator has at an opset; None if a graph may not hold it."""
    # Entries are in the order of opsets, so the last one that is not newer than `opset` holds.
    rows = [counts for since, counts in OPERATORS.get(op, []) if since <= opset]
    return rows[-1] if rows else None
