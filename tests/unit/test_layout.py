"""The near-first layout and the composition over levels: who owns which slots, and what crosses which boundary."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import topologies

from topocomm import Topology
from topocomm.algorithms import make_schedule
from topocomm.model import Traffic, list_messages
from topocomm.schedule.layout import bit_reversed, near_first_layout
from topocomm.schedule.tree import Tree
from topocomm.topology import groups_of, random_places, reorder_ranks, two_level

ONCE = [("allgather", n) for n in ("recursive_doubling", "bruck", "recursive_doubling:direct", "bruck:direct")]
ONCE += [("reduce_scatter", n) for n in ("recursive_halving", "circulant", "pairwise", "recursive_halving:direct")]
LEAST = [(*names, 1) for names in ONCE] + [("allreduce", "rabenseifner", 2)]


def members_by_slot(layout, d, place):
    return layout.by_slot[d][layout.first[d][place] : layout.first[d][place + 1]]


@given(topologies(max_ranks=40))
def test_intervals_partition_the_slots_in_every_place_and_are_nested(topology):
    layout = near_first_layout(topology)
    for d, places in enumerate(layout.places):
        for place in range(places[-1] + 1):
            members = members_by_slot(layout, d, place)
            assert sorted(members.tolist()) == np.flatnonzero(places == place).tolist()
            assert layout.start[d][members[0]] == 0
            assert layout.stop[d][members[-1]] == layout.size
            assert (layout.stop[d][members[:-1]] == layout.start[d][members[1:]]).all()
    for outer, inner in itertools.pairwise(range(layout.depth + 1)):
        assert (layout.start[inner] <= layout.start[outer]).all()
        assert (layout.stop[inner] >= layout.stop[outer]).all()
    assert (layout.start[0] == layout.home).all()
    assert (layout.stop[0] == layout.home + 1).all()


@given(topologies(max_ranks=40))
def test_intervals_are_as_balanced_as_the_outer_ones_allow(topology):
    """Every cut stands at its even share, unless the interval of a neighbour at the outer depth pins it."""
    layout = near_first_layout(topology)
    for d in range(1, layout.depth + 1):
        for place in range(layout.places[d][-1] + 1):
            members = members_by_slot(layout, d, place)
            for i, (left, right) in enumerate(itertools.pairwise(members.tolist()), 1):
                cut, even = layout.start[d][right], i * layout.size // len(members)
                pinned_up, pinned_down = layout.stop[d - 1][left], layout.start[d - 1][right]
                assert cut == even or (cut > even and cut == pinned_up) or (cut < even and cut == pinned_down)


@given(st.lists(st.sampled_from((1, 2, 3, 4)), min_size=1, max_size=3))
def test_equal_places_own_equal_intervals(extents):
    rows = list(itertools.product(*map(range, extents)))
    layout = near_first_layout(Topology([f"level{i}" for i in range(len(extents))], rows))
    for d, places in enumerate(layout.places):
        members = int(np.bincount(places)[0])
        assert set((layout.stop[d] - layout.start[d]).tolist()) == {len(rows) // members}


@given(topologies(max_ranks=40))
def test_owners_finds_who_owns_a_slot(topology):
    layout = near_first_layout(topology)
    slots = np.arange(layout.size)
    for d, places in enumerate(layout.places):
        for place in range(places[-1] + 1):
            owners = layout.owners(d, place, slots)
            assert (places[owners] == place).all()
            assert ((layout.start[d][owners] <= slots) & (slots < layout.stop[d][owners])).all()


def test_powers_of_two_stand_bit_reversed():
    assert bit_reversed(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert bit_reversed(6).tolist() == list(range(6))
    assert near_first_layout(Topology.flat(8)).home.tolist() == [0, 4, 2, 6, 1, 5, 3, 7]


def check_least_bytes(topology):
    for collective, name, times in LEAST:
        traffic = Traffic(list_messages(make_schedule(collective, name, topology)), topology)
        for level in topology.levels:
            places = len(topology.counts(level))
            assert traffic.between(level) == Fraction(times * (places - 1)), f"{collective} {name} at {level}"


@given(topologies(max_ranks=20))
def test_bytes_between_places_are_the_least_at_every_level(topology):
    """(G - 1) n for allgather and reduce_scatter, twice that for allreduce: any sizes, any order of ranks."""
    check_least_bytes(topology)


@pytest.mark.parametrize("order", ["sorted", "cyclic", "random:1", "random:2"])
@pytest.mark.parametrize(
    "machine", [two_level(4, 8), two_level(6, 5), groups_of([7, 1, 13, 5, 2]), random_places(61, 5)], ids=repr
)
def test_bytes_between_places_are_the_least_in_every_order(machine, order):
    check_least_bytes(reorder_ranks(machine, order))


@given(topologies(max_ranks=30), st.data())
def test_trees_span_every_place_once(topology, data):
    """Parents and children agree, subtrees are disjoint, and each place is entered by one edge."""
    layout = near_first_layout(topology)
    root = data.draw(st.integers(0, topology.size - 1))
    tree = Tree(layout, root)
    for v in range(topology.size):
        below = [set(np.asarray(ranks).tolist()) for _, ranks in tree.children(v)]
        assert sum(map(len, below)) == len(set().union(*below))
        for (child, _), ranks in zip(tree.children(v), below, strict=True):
            assert tree.parent(child) == v
            assert set(np.asarray(tree.subtree(child)).tolist()) == ranks
    assert tree.parent(root) is None
    assert set(np.asarray(tree.subtree(root)).tolist()) == set(range(topology.size))
    for places in layout.places:
        entering = [places[v] for v in range(topology.size) if v != root and places[v] != places[tree.parent(v)]]
        assert len(entering) == len(set(entering)) == places[-1]
