"""Places on a mesh, pieces of tensors, pieces of factors: every element is somewhere, once."""

from math import ceil, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiplan.ir import (
    Cut,
    MeshPlace,
    Own,
    Sharding,
    Split,
    apply_view,
    assemble,
    mesh_peers,
    mesh_places,
    mesh_ways,
    shard,
)

MESHES = st.sampled_from([(1,), (2,), (3,), (8,), (2, 2), (2, 3), (4, 2), (1, 3)])


@st.composite
def meshes_and_axes(draw):
    """A mesh, and some of its axes in any order."""
    mesh = draw(MESHES)
    order = draw(st.permutations(range(len(mesh))))
    return mesh, tuple(order[: draw(st.integers(1, len(mesh)))])


@st.composite
def shardings(draw):
    """A mesh and a sharding over it: one dimension cut by some axes, perhaps another by the rest."""
    mesh, axes = draw(meshes_and_axes())
    atoms = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    dimensions = draw(st.permutations(range(len(atoms))))
    cuts = [Cut(dimensions[0], axes)]
    rest = tuple(axis for axis in range(len(mesh)) if axis not in axes)
    if rest and len(atoms) > 1 and draw(st.booleans()):
        cuts.append(Cut(dimensions[1], rest))
    merged = draw(st.integers(1, len(atoms)))
    shape = (prod(atoms[:merged]), *atoms[merged:])
    return mesh, Sharding(shape, atoms, tuple(cuts))


@settings(max_examples=60, deadline=None)
@given(shardings())
def test_pieces_assemble_to_the_whole(drawn):
    mesh, sharding = drawn
    whole = np.arange(1, prod(sharding.shape) + 1).reshape(sharding.shape)
    pieces = [shard(whole, sharding, place) for place in mesh_places(mesh)]
    assert {piece.shape for piece in pieces} == {sharding.piece_shape(mesh)}
    np.testing.assert_array_equal(assemble(pieces, sharding, mesh), whole)


@settings(max_examples=60, deadline=None)
@given(shardings())
def test_pieces_hold_every_element_equally_often_and_zeros_beyond(drawn):
    mesh, sharding = drawn
    whole = np.arange(1, prod(sharding.shape) + 1).reshape(sharding.shape)
    held = np.concatenate([shard(whole, sharding, place).ravel() for place in mesh_places(mesh)])
    ways = prod(mesh_ways(mesh, cut.axes) for cut in sharding.cuts)
    counts = np.bincount(held, minlength=whole.size + 1)[1:]
    assert set(counts.tolist()) == {prod(mesh) // ways}


@settings(max_examples=40, deadline=None)
@given(meshes_and_axes())
def test_peers_agree_elsewhere_and_stand_in_piece_order(drawn):
    mesh, axes = drawn
    places, seen = mesh_places(mesh), []
    for peers in mesh_peers(mesh, axes):
        assert [places[rank].piece(axes) for rank in peers] == list(range(mesh_ways(mesh, axes)))
        others = {
            tuple(c for axis, c in enumerate(places[rank].coordinates) if axis not in axes) for rank in peers
        }
        assert len(others) == 1
        seen += peers
    assert sorted(seen) == list(range(prod(mesh)))


@settings(max_examples=60, deadline=None)
@given(meshes_and_axes(), st.integers(1, 40))
def test_chips_share_the_iterations_of_a_factor(drawn, extent):
    mesh, axes = drawn
    part = ceil(extent / mesh_ways(mesh, axes))
    for peers in mesh_peers(mesh, axes):
        real = [Split(0, axes, extent).real(part, mesh_places(mesh)[rank]) for rank in peers]
        assert sum(real) == extent
        assert max(real) == part
        assert sorted(real, reverse=True) == real


@settings(max_examples=60, deadline=None)
@given(meshes_and_axes(), st.integers(1, 20), st.integers(0, 3))
def test_own_pieces_are_the_pieces_of_a_cut(drawn, extent, shift):
    """Up to its real end, a view of a chip's own piece is what a cut would have given that chip."""
    (mesh, axes), ways = drawn, mesh_ways(*drawn)
    whole, part = np.arange(1, 2 * extent + 1).reshape(2, extent), ceil(extent / ways)
    sharding = Sharding(whole.shape, whole.shape, (Cut(1, axes),))
    for peers in mesh_peers(mesh, axes):
        places = [mesh_places(mesh)[rank] for rank in peers]
        for c, place in enumerate(places):
            seen = apply_view((Own(1, axes, ways, shift),), whole, place)
            owner = places[(c + shift) % ways]
            piece = shard(whole, sharding, owner)
            real = Split(0, axes, extent).real(part, owner)
            np.testing.assert_array_equal(seen[:, :real], piece[:, :real])
            assert seen.shape == (2, part)
            assert set(seen[:, real:].ravel().tolist()) <= {extent, 2 * extent}


def test_two_axes_number_pieces_with_the_first_outermost():
    place = MeshPlace((4, 2), (3, 1))
    assert place.piece((0, 1)) == 7
    assert place.piece((1, 0)) == 7
    assert MeshPlace((4, 2), (1, 0)).piece((0, 1)) == 2
    assert MeshPlace((4, 2), (1, 0)).piece((1, 0)) == 1


@pytest.mark.parametrize(
    ("extent", "ways", "sizes"), [(12, 8, [2, 2, 2, 2, 2, 2, 0, 0]), (5, 3, [2, 2, 1]), (4, 3, [2, 2, 0])]
)
def test_uneven_pieces(extent, ways, sizes):
    split = Split(0, (0,), extent)
    part = ceil(extent / ways)
    assert [split.real(part, place) for place in mesh_places((ways,))] == sizes


def test_only_a_chip_of_a_group_has_an_own_piece():
    with pytest.raises(ValueError, match="of its own"):
        apply_view((Own(0, (0,), 2),), np.zeros(4))
