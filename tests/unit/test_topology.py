"""Topologies: places, orders, queries, builders."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import topologies

from topocomm import Topology, TopologyError
from topocomm.topology import dragonfly, fat_tree, groups_of, random_places, reorder_ranks, torus, two_level

UNEQUAL = Topology(("group", "node"), [["a", "n0"], ["b", "n0"], ["a", "n1"], ["b", "n0"], ["a", "n0"], ["c", "n7"]])


def paths(topology: Topology) -> list[tuple]:
    return [tuple(row) for row in topology.labels.tolist()]


def test_a_label_means_a_place_only_in_its_outer_place():
    assert UNEQUAL.places.tolist() == [[0, 0], [1, 1], [0, 2], [1, 1], [0, 0], [2, 3]]
    assert UNEQUAL.counts("group").tolist() == [3, 2, 1]
    assert UNEQUAL.counts("node").tolist() == [2, 2, 1, 1]


def test_order_keeps_places_together_and_counts_from_the_lowest_rank():
    assert UNEQUAL.order.tolist() == [0, 4, 2, 1, 3, 5]
    assert UNEQUAL.virtual.tolist() == [0, 3, 2, 4, 1, 5]
    assert not UNEQUAL.is_sorted
    assert reorder_ranks(UNEQUAL, "sorted").is_sorted


def test_nesting_leaves_out_levels_that_part_nothing():
    same = Topology(("group", "switch", "node"), [[0, 0, 0], [0, 0, 1], [1, 5, 0]])
    assert [x.tolist() for x in same.nesting] == [[0, 0, 0], [0, 0, 1], [0, 1, 2]]
    assert [x.tolist() for x in Topology.flat(1).nesting] == [[0]]
    assert [x.tolist() for x in Topology.flat(2).nesting] == [[0, 0], [0, 1]]


def test_meet_and_groups():
    assert UNEQUAL.meet(0, 4) == "node"
    assert UNEQUAL.meet(0, 2) == "group"
    assert UNEQUAL.meet(0, 1) is None
    assert UNEQUAL.shared_levels(1, 3) == 2
    assert [g.tolist() for g in UNEQUAL.groups("group")] == [[0, 2, 4], [1, 3], [5]]
    assert [g.tolist() for g in UNEQUAL.groups("node")] == [[0, 4], [1, 3], [2], [5]]


def test_describe():
    assert UNEQUAL.describe() == "6 ranks, 3 groups of 1-3, 4 nodes of 1-2, not in topology order"
    assert repr(Topology.flat(2)) == "<Topology 2 ranks, in topology order>"


@pytest.mark.parametrize(
    ("levels", "places", "reason"),
    [
        (("node", "node"), [[0, 0]], "twice"),
        (("node",), [], "at least one rank"),
        (("node",), [[0], [0, 1]], "rank 1 has 2 places, needs 1"),
        (("group", "node"), np.zeros((3, 1)), "columns"),
    ],
)
def test_malformed_places_are_refused(levels, places, reason):
    with pytest.raises(TopologyError, match=reason):
        Topology(levels, places)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Topology.flat(0),
        lambda: groups_of([3, 0]),
        lambda: groups_of([]),
        lambda: two_level(0, 4),
        lambda: torus([]),
        lambda: fat_tree(1, 1, 1, 0),
    ],
)
def test_builders_refuse_emptiness(make):
    with pytest.raises(TopologyError):
        make()


def test_unknown_level_and_order_are_refused():
    with pytest.raises(TopologyError, match=r"unknown level 'rack'.*'group', 'node'"):
        UNEQUAL.counts("rack")
    for how in ("random", "random:", "random:-1", "Sorted", ""):
        with pytest.raises(TopologyError, match="random:SEED"):
            reorder_ranks(UNEQUAL, how)


def test_builders():
    assert groups_of([3, 1]).counts("group").tolist() == [3, 1]
    assert two_level(3, 4).counts("node").tolist() == [4, 4, 4]
    tree = fat_tree(2, 3, 4, 5)
    assert (tree.size, tree.levels) == (120, ("pod", "switch", "node"))
    assert [len(tree.counts(x)) for x in tree.levels] == [2, 6, 24]
    assert [len(dragonfly(4, 2, 3).counts(x)) for x in ("group", "router", "node")] == [4, 8, 24]
    assert torus((2, 3, 4)).levels == ("dim0", "dim1", "node")
    assert all(t.is_sorted for t in (tree, torus((2, 3, 4)), two_level(3, 4)))


def test_orders_of_ranks():
    machine = groups_of([3, 1, 2])
    assert paths(reorder_ranks(machine, "cyclic")) == [(0,), (1,), (2,), (0,), (2,), (0,)]
    assert reorder_ranks(machine, "given") is machine
    assert reorder_ranks(machine, "random:3") == reorder_ranks(machine, "random:3")
    assert reorder_ranks(Topology.flat(3), "cyclic") == Topology.flat(3)


def test_random_places_are_repeatable_unequal_and_of_every_depth():
    drawn = [random_places(50, seed) for seed in range(40)]
    assert [t.signature for t in drawn] == [random_places(50, seed).signature for seed in range(40)]
    assert {len(t.levels) for t in drawn} == {1, 2, 3}
    assert {t.is_sorted for t in drawn} == {True, False}
    assert any(len(set(t.counts(t.levels[-1]).tolist())) > 2 for t in drawn)


@given(topologies())
def test_order_and_virtual_are_inverse_and_keep_every_place_together(topology):
    order, virtual = topology.order, topology.virtual
    assert sorted(order.tolist()) == list(range(topology.size))
    assert (order[virtual] == np.arange(topology.size)).all()
    for level in topology.levels:
        for members in topology.groups(level):
            stand = np.sort(virtual[members])
            assert (np.diff(stand) == 1).all()
            if level == topology.levels[-1]:
                assert (np.diff(virtual[members]) > 0).all()


@given(topologies())
def test_places_are_the_distinct_paths(topology):
    for i, level in enumerate(topology.levels):
        prefix = [path[: i + 1] for path in paths(topology)]
        groups = [members.tolist() for members in topology.groups(level)]
        assert sorted(map(tuple, groups)) == sorted(
            tuple(r for r, q in enumerate(prefix) if q == path) for path in set(prefix)
        )
        assert topology.counts(level).sum() == topology.size


@given(topologies(), st.data())
def test_meet_is_the_longest_common_path(topology, data):
    a, b = (data.draw(st.integers(0, topology.size - 1)) for _ in range(2))
    common = 0
    while common < len(topology.levels) and paths(topology)[a][: common + 1] == paths(topology)[b][: common + 1]:
        common += 1
    assert topology.shared_levels(a, b) == common
    assert topology.meet(a, b) == (topology.levels[common - 1] if common else None)


@given(topologies())
def test_nesting_is_a_chain_of_ever_finer_partitions(topology):
    chain = topology.nesting
    assert (chain[0] == 0).all()
    assert len(np.unique(chain[-1])) == topology.size
    for outer, inner in itertools.pairwise(chain):
        assert set(np.diff(inner).tolist()) <= {0, 1}
        assert len(np.unique(inner)) > len(np.unique(outer))
        assert len(set(zip(outer.tolist(), inner.tolist(), strict=True))) == len(np.unique(inner))


@given(topologies(), st.data())
def test_restrict_keeps_the_places(topology, data):
    ranks = data.draw(st.permutations(range(topology.size)))[: data.draw(st.integers(1, topology.size))]
    part = topology.restrict(ranks)
    assert paths(part) == [paths(topology)[r] for r in ranks]
    if topology.levels:
        outer = topology.upto(topology.levels[0])
        assert paths(outer) == [path[:1] for path in paths(topology)]


@given(topologies(), st.sampled_from(("given", "sorted", "cyclic", "random:0", "random:7")))
def test_reordering_hands_out_the_same_places(topology, how):
    again = reorder_ranks(topology, how)
    assert sorted(paths(again)) == sorted(paths(topology))
    assert again.is_sorted or how != "sorted"
    if how == "cyclic" and topology.levels:
        first = again.places[: len(topology.counts(topology.levels[0])), 0]
        assert len(set(first.tolist())) == len(first), "every outermost place gets one rank before any gets two"


@given(topologies())
def test_signature_forgets_names_but_not_places(topology):
    names = {path: f"x{len(path)}{path}" for row in paths(topology) for path in [row[: i + 1] for i in range(len(row))]}
    renamed = [[names[row[: i + 1]] for i in range(len(row))] for row in paths(topology)]
    again = Topology(topology.levels, renamed)
    assert (again == topology, hash(again)) == (True, hash(topology))
    assert topology != Topology((*topology.levels, "more"), [[*row, i] for i, row in enumerate(paths(topology))])
