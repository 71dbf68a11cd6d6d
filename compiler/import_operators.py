"""The operators that the importer leaves in the graph; all others are decomposed into them."""

ELEMENTWISE = (
    "Add Sub Mul Div Pow Sqrt Reciprocal Exp Log Erf Tanh Sigmoid Relu Neg Abs Cos Sin Where Cast "
    "Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not IsNaN IsInf Min Max Mod Floor Ceil "
    "Round Sign Clip"
)
REDUCTIONS = "ReduceSum ReduceMax ReduceMin ReduceMean ReduceProd"
MATRIX = "MatMul Gemm Einsum MatMulInteger Conv"
VIEWS = "Reshape Transpose Unsqueeze Squeeze Flatten Expand Slice Split Identity Tile"
MOVES = "Concat Pad Trilu Gather GatherND GatherElements ScatterND ScatterElements"
ALONG_AN_AXIS = "CumSum TopK ArgMax OneHot Range"
QUANTISED = "QuantizeLinear DequantizeLinear"

PRIMITIVES = frozenset(
    f"{ELEMENTWISE} {REDUCTIONS} {MATRIX} {VIEWS} {MOVES} {ALONG_AN_AXIS} {QUANTISED}".split()
)
DATA_DEPENDENT = frozenset(("NonZero", "Unique", "Compress", "NonMaxSuppression"))
"""Operators whose results have as many elements as the data says."""
