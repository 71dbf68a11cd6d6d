"""The operators that the importer leaves in the graph; all others are decomposed into them."""

_ELEMENTWISE = (
    "Add Sub Mul Div Pow Sqrt Reciprocal Exp Log Erf Tanh Sigmoid Relu Neg Abs Cos Sin Where Cast "
    "Equal Less LessOrEqual Greater GreaterOrEqual And Or Xor Not IsNaN IsInf Min Max Mod Floor Ceil "
    "Round Sign Clip"
)
_REDUCTIONS = "ReduceSum ReduceMax ReduceMin ReduceMean ReduceProd"
_MATRIX = "MatMul Gemm Einsum MatMulInteger Conv"
_VIEWS = "Reshape Transpose Unsqueeze Squeeze Flatten Expand Slice Split Identity Tile"
_MOVES = "Concat Pad Trilu Gather GatherND GatherElements ScatterND ScatterElements"
_ALONG_AN_AXIS = "CumSum TopK ArgMax OneHot Range"
_QUANTISED = "QuantizeLinear DequantizeLinear"

PRIMITIVES = frozenset(
    " ".join((_ELEMENTWISE, _REDUCTIONS, _MATRIX, _VIEWS, _MOVES, _ALONG_AN_AXIS, _QUANTISED)).split()
)
DATA_DEPENDENT = frozenset(("NonZero", "Unique", "Compress", "NonMaxSuppression"))
"""Operators whose results have as many elements as the data says."""
