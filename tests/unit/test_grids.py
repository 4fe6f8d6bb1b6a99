"""Ranks on Cartesian grids: complete, never worse, and as good as the best known ways where these are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import topologies

from topocomm.errors import TopologyError
from topocomm.topology import Topology, groups_of, reorder_ranks, two_level
from topocomm.topology.grids import cart_order, parted


def grids(size: int):
    """Shapes of at most ``size`` positions, with periods."""
    side = st.tuples(st.integers(1, 6), st.booleans())
    shapes = st.lists(side, min_size=1, max_size=4).filter(lambda sides: math.prod(n for n, _ in sides) <= size)
    return shapes.map(lambda sides: ([n for n, _ in sides], [around for _, around in sides]))


@given(topologies(1, 24).flatmap(lambda topology: st.tuples(st.just(topology), grids(topology.size))))
def test_every_rank_has_one_position_and_no_grid_is_worse_than_before(case):
    topology, (dims, periods) = case
    order = cart_order(topology, dims, periods)
    assert sorted(order.tolist()) == list(range(topology.size))
    cells = math.prod(dims)
    before = parted(topology, np.arange(cells), dims, periods)
    assert sum(parted(topology, order[:cells], dims, periods)) <= sum(before)


@given(topologies(2, 24))
def test_pairs_are_counted_one_by_one(topology):
    dims, periods = (topology.size // 2, 2), (True, False)
    order = np.random.default_rng(0).permutation(topology.size)[: 2 * dims[0]]
    grid = order.reshape(dims)
    pairs = [(grid[x, 0], grid[x, 1]) for x in range(dims[0])]
    pairs += [(grid[x, y], grid[(x + 1) % dims[0], y]) for x in range(dims[0]) for y in range(2)]
    for level, count in enumerate(parted(topology, order, dims, periods)):
        assert count == sum(topology.places[a, level] != topology.places[b, level] for a, b in pairs)


@pytest.mark.parametrize(
    ("topology", "dims", "periods", "most"),
    [
        (two_level(4, 4), (4, 4), (False, False), [8]),  # four squares of 2 x 2
        (two_level(4, 4), (4, 4), (True, True), [16]),
        (two_level(8, 8), (4, 4, 4), (False,) * 3, [48]),  # eight cubes of 2 x 2 x 2
        (two_level(6, 6), (6, 6), (False, False), [18]),  # six boxes of 2 x 3
        (reorder_ranks(two_level(4, 4), "random:3"), (4, 4), (False, False), [8]),
        (groups_of([4, 8, 4]), (4, 4), (False, False), [8]),  # lines, with two of them in one place
        (groups_of([2, 6]), (2, 4), (False, False), [2]),
        (two_level(4, 4), (16,), (True,), [4]),
    ],
)  # fmt: skip
def test_known_grids(topology, dims, periods, most):
    order = cart_order(topology, dims, periods)
    assert parted(topology, order, dims, periods) <= most


def test_all_levels_count():
    """Two groups of two nodes of four: halves of the grid are groups, squares are nodes."""
    places = [(k % 2, k // 2 % 2) for k in range(16)]
    topology = Topology(("group", "node"), places)
    order = cart_order(topology, (4, 4), (False, False))
    assert parted(topology, order, (4, 4), (False, False)) == [4, 8]
    assert parted(topology, np.arange(16), (4, 4), (False, False)) == [12, 12]


def test_inside_the_node_the_rest_counts():
    topology = Topology(("node", "socket"), [(k // 8, k % 2) for k in range(16)])
    order = cart_order(topology, (4, 4), (False, False))
    assert parted(topology, order, (4, 4), (False, False)) == [4, 8]


def test_a_good_order_is_kept():
    topology = two_level(4, 2)
    assert cart_order(topology, (4, 2), (False, False)).tolist() == list(range(8))
    assert cart_order(Topology.flat(6), (3, 2), (True, True)).tolist() == list(range(6))


def test_ranks_without_a_position_stand_last():
    order = cart_order(reorder_ranks(two_level(3, 4), "cyclic"), (4, 2), (False, False))
    assert sorted(order.tolist()) == list(range(12))
    topology = reorder_ranks(two_level(3, 4), "cyclic")
    assert parted(topology, order[:8], (4, 2), (False, False)) == [2]


@pytest.mark.parametrize("dims", [(3, 3), (0, 4), (-1,)])
def test_grids_that_do_not_fit(dims):
    with pytest.raises(TopologyError, match="does not fit 8 ranks"):
        cart_order(two_level(2, 4), dims, (False,) * len(dims))
