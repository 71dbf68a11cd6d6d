"""A local view of a piece of a tensor shows the piece of what the whole view shows."""

import numpy as np
import pytest
from hypothesis import given, settings

from chiplan.compiler.atoms import OperatorAtoms, find_atoms
from chiplan.compiler.local_views import Dimensions, local_shape, localise_view
from chiplan.ir import Operand, Reshape, Shape, Slice, Transpose, View, Window, apply_view

from .atom_graphs import copy_through, piece_of, pieces, real_part, run_atoms, seen_dimensions, seen_shapes


def check_law(operand: Operand, atoms: OperatorAtoms, dims: Dimensions, shape: Shape, position: int) -> int:
    """Every piece of every atom that a factor atom runs through; returns how many were checked."""
    whole = np.arange(np.prod(shape, dtype=int)).reshape(shape) + 1
    seen, seen_dims = apply_view(operand.view, whole), seen_dimensions(operand, atoms.factors)
    checked = 0
    for atom, (factor, along) in run_atoms(atoms.operands[position]).items():
        seen_atom = (operand.axes.index(factor), along)
        for ways in (2, 3):
            for part, number in pieces(dims[atom[0]][atom[1]], ways):
                local = piece_of(whole, dims, atom, part, number)
                assert local.shape == local_shape(dims, {atom: part})
                shown = apply_view(localise_view(operand.view, dims, {atom: part}), local)
                expected = piece_of(seen, seen_dims, seen_atom, part, number)
                # Of a short piece only the real part is anybody's business.
                real = real_part(dims, atom, part, number)
                cut_dims = tuple(
                    tuple(part if (d, i) == seen_atom else n for i, n in enumerate(extents))
                    for d, extents in enumerate(seen_dims)
                )
                np.testing.assert_array_equal(
                    piece_of(shown, cut_dims, seen_atom, real, 0),
                    piece_of(expected, cut_dims, seen_atom, real, 0),
                )
                checked += 1
    return checked


@settings(max_examples=150, deadline=None)
@given(seen_shapes())
def test_pieces_of_a_tensor_show_pieces_of_what_it_shows(case: tuple[View, Shape]) -> None:
    view, shape = case
    graph = copy_through(view, shape)
    atoms = find_atoms(graph)
    check_law(graph.operators[0].operands[0], atoms.operators[0], atoms.tensors["x"], shape, 0)


@settings(max_examples=60, deadline=None)
@given(seen_shapes())
def test_several_cuts_are_one_after_the_other(case: tuple[View, Shape]) -> None:
    """Cut all atoms that may be cut: the last piece of each."""
    view, shape = case
    graph = copy_through(view, shape)
    atoms, operand = find_atoms(graph), graph.operators[0].operands[0]
    dims, seen_dims = atoms.tensors["x"], seen_dimensions(operand, atoms.operators[0].factors)
    local = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    seen = apply_view(view, local)
    cut = {}
    for atom, (factor, along) in run_atoms(atoms.operators[0].operands[0]).items():
        last = dims[atom[0]][atom[1]] - 1
        local = piece_of(local, _after(dims, cut), atom, 1, last)
        seen_atom = (operand.axes.index(factor), along)
        seen = piece_of(seen, seen_dims, seen_atom, 1, last)
        seen_dims = _after(seen_dims, {seen_atom: 1})
        cut[atom] = 1
    np.testing.assert_array_equal(apply_view(localise_view(view, dims, cut), local), seen)


def _after(dims: Dimensions, cut: dict[tuple[int, int], int]) -> Dimensions:
    return tuple(
        tuple(cut.get((d, i), extent) for i, extent in enumerate(atoms)) for d, atoms in enumerate(dims)
    )


FUSED = ((128,), (3, 12, 64))
HEADS = (
    Reshape((1, 128, 2304)),
    Slice((0, 0, 768), (1, 128, 1536), (1, 1, 1)),
    Reshape((1, 128, 12, 64)),
    Transpose((0, 2, 1, 3)),
)


def test_heads_of_a_fused_projection_stay_a_slice() -> None:
    assert local_shape(FUSED, {(1, 1): 3}) == (128, 576)
    assert localise_view(HEADS, FUSED, {(1, 1): 3}) == (
        Reshape((1, 128, 576)),
        Slice((0, 0, 192), (1, 128, 384), (1, 1, 1)),
        Reshape((1, 128, 3, 64)),
        Transpose((0, 2, 1, 3)),
    )


def test_an_uncut_tensor_is_seen_as_ever() -> None:
    assert localise_view(HEADS, FUSED, {}) == HEADS


def test_every_second_element_of_a_cut_dimension() -> None:
    view = (
        Slice(
            (0, 1),
            (
                4,
                12,
            ),
            (1, 2),
        ),
    )
    assert localise_view(view, ((4,), (6, 2)), {(1, 0): 3}) == (Slice((0, 1), (4, 6), (1, 2)),)


@pytest.mark.parametrize(
    ("view", "dims", "cut", "says"),
    [
        ((Slice((0, 0), (128, 768), (1, 1)),), FUSED, {(1, 0): 1}, "ends within the pieces"),
        ((Slice((0, 0), (128, 2304), (1, 2)),), FUSED, {(1, 2): 32}, "steps over the pieces"),
        ((Window(1, 3, 1, 1),), FUSED, {(1, 1): 6}, "looks across the pieces"),
        ((Reshape((12, 4)),), ((6,), (8,)), {(1, 0): 4}, "is reshaped to"),
    ],
)
def test_cuts_that_a_view_does_not_run_through(view: View, dims: Dimensions, cut: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        localise_view(view, dims, cut)
