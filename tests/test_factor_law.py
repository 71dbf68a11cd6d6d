"""The factor law, for every operator that has a nest, against `onnx.reference`.

Split a parallel factor, run the operator on the slices: the results are the slices of the whole
result. Split a reduced factor: the partial results combine by its reducer. A gathered factor is
split by giving each shard the table with foreign rows zero.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.compiler.nests import ELEMENTWISE, NEST_RULES, data_inputs, loop_nest
from chiplan.ir import AxisMap, LoopNest, Reducer

from .operator_cases import CASES, Case, Draw, imported, indices, run

COMBINE = {Reducer.SUM: np.add, Reducer.MAX: np.maximum, Reducer.MIN: np.minimum}


def nest_of(case: Case, whole: Sequence[np.ndarray]) -> tuple[LoopNest, tuple[int, ...]]:
    """The nest, and the positions of the inputs that its operands are."""
    node, tensors = imported(case, whole)
    return loop_nest(node, tensors), tuple(int(name[1:]) for name in data_inputs(node))


def take(array: np.ndarray, touched: list[np.ndarray]) -> np.ndarray:
    """The part of `array` at the touched indices; outside of it (padding) there is nothing."""
    inside = [
        index[(index >= 0) & (index < extent)] for index, extent in zip(touched, array.shape, strict=True)
    ]
    return array[np.ix_(*inside)]


def only_rows(array: np.ndarray, axes: AxisMap, factor: int, rows: range) -> np.ndarray:
    """`array` with zeros where the index along `factor` is not in `rows`."""
    for dimension, axis in enumerate(axes):
        if any(term == factor for term, _ in axis.terms):
            held = np.isin(np.arange(array.shape[dimension]), rows)
            array = np.where(np.expand_dims(held, [d for d in range(array.ndim) if d != dimension]), array, 0)
    return array


def part(case: Case, nest: LoopNest, data: tuple[int, ...], factor: int, rows: range) -> Case:
    """The same operator on the iterations whose `factor` is in `rows`."""
    whole = tuple(range(f.extent) for f in nest.factors)
    box = (*whole[:factor], rows, *whole[factor + 1 :])
    inputs = list(case.inputs)
    for axes, position in zip(nest.operands, data, strict=True):
        array = inputs[position]
        assert array is not None
        if nest.factors[factor].gathered:
            inputs[position] = only_rows(array, axes, factor, rows).astype(array.dtype)
        else:
            touched = indices(axes, box)
            if case.op_type == "Conv" and position == 0:
                # A window reads the hull: rows that a stride skips are there all the same.
                touched[2:] = [np.arange(index.min(), index.max() + 1) for index in touched[2:]]
            inputs[position] = take(array, touched)
    smaller = Case(case.op_type, tuple(inputs), case.attributes, case.outputs, case.adapt)
    return case.adapt(smaller, nest, box)


def check(case: Case, draw: Draw) -> None:
    """Split every factor that may be split, at random points."""
    whole = run(case)
    nest, data = nest_of(case, whole)
    for axes, position in zip(nest.operands, data, strict=True):
        array = case.inputs[position]
        assert array is not None
        assert len(axes) == array.ndim
    for index, factor in enumerate(nest.factors):
        assert factor.extent > 1
        if factor.whole:
            continue
        cuts = sorted(draw(st.sets(st.integers(1, factor.extent - 1), min_size=1, max_size=2)))
        shards = [range(low, high) for low, high in pairwise([0, *cuts, factor.extent])]
        found = [run(part(case, nest, data, index, rows)) for rows in shards]
        check_results(nest, index, shards, found, whole)


def check_results(
    nest: LoopNest, factor: int, shards: list[range], parts: list[list[np.ndarray]], whole: list[np.ndarray]
) -> None:
    """The law for one factor: `parts[shard][result]` against `whole[result]`."""
    full = tuple(range(f.extent) for f in nest.factors)
    reducer = nest.factors[factor].reducer
    for position, (axes, expected) in enumerate(zip(nest.results, whole, strict=True)):
        found = [results[position] for results in parts]
        if reducer is not None:
            combined = reduce(COMBINE[reducer], found)
            np.testing.assert_allclose(combined, expected, rtol=1e-4, atol=1e-5)
            continue
        for rows, slice_ in zip(shards, found, strict=True):
            box = (*full[:factor], rows, *full[factor + 1 :])
            np.testing.assert_allclose(slice_, take(expected, indices(axes, box)), rtol=1e-5, atol=1e-6)


def test_every_operator_with_a_nest_is_tried() -> None:
    assert sorted(CASES) == sorted(op_type for rule in NEST_RULES for op_type in rule.op_types)


@pytest.mark.parametrize("op_type", sorted(CASES))
def test_factor_law(op_type: str) -> None:
    examples = 4 if op_type in ELEMENTWISE else 15

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def law(data: st.DataObject) -> None:
        check(CASES[op_type](data.draw), data.draw)

    law()
