"""Broadcast and reduce along k short trees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import topologies
from test_model_transfers import same

from topocomm import Topology
from topocomm.algorithms import make_schedule
from topocomm.algorithms.k_trees import TREES, forest
from topocomm.choose.modelled import Chooser
from topocomm.model import Network, default_machine, schedule_time, transfers
from topocomm.schedule.verify import verify
from topocomm.topology import fat_tree, groups_of, reorder_ranks

ROOTED = ("bcast", "reduce")


@settings(max_examples=30)
@given(topology=topologies(max_ranks=24), k=st.integers(2, 9), segments=st.integers(1, 4), data=st.data())
def test_proved_listed_and_nobody_moves_more_than_the_vector(topology, k, segments, data):
    root = data.draw(st.integers(0, topology.size - 1))
    for collective in ROOTED:
        name = f"k_trees:radix={k},segments={segments}"
        verify(make_schedule(collective, name, topology, root))
        same(collective, name, topology, root)
        listed = transfers(collective, name, topology, root)
        for end in (listed.source, listed.target):
            moved = np.bincount(end, weights=listed.blocks, minlength=topology.size)
            assert moved.max(initial=0) <= max(listed.vector, 1)


@pytest.mark.parametrize("topology", [Topology.flat(100), fat_tree(2, 3, 8), groups_of([9, 30, 17, 1, 20])])
@pytest.mark.parametrize("k", [2, 3, 8])
def test_children_in_one_tree_but_for_a_few_that_are_lent(topology, k):
    trees = forest(reorder_ranks(topology, "random:4"), 5, k)
    children = np.stack([np.bincount(above[above >= 0], minlength=topology.size) for above in trees.parent])
    assert children.sum(axis=0).max() <= k
    elsewhere = children * (trees.lane != np.arange(k)[:, None])
    elsewhere[:, 5] = 0
    assert elsewhere.sum() <= 2 * k * k
    assert (children[:, 5] == 1).all()


@pytest.mark.parametrize(("p", "most"), [(2, 1), (3, 2), (10, 2), (39, 3), (64, 4), (512, 4), (1024, 5)])
def test_trees_are_short(p, most):
    assert forest(Topology.flat(p), 0).deepest == most
    assert forest(reorder_ranks(groups_of([p // 2, p - p // 2]), "random:1"), p // 3).deepest <= most + 1


@pytest.mark.parametrize("order", ["sorted", "cyclic", "random:3"])
def test_a_place_receives_little_more_than_the_vector(order):
    topology = reorder_ranks(fat_tree(4, 4, TREES), order)
    parent = forest(topology, 0).parent
    for level, most in (("pod", 2.0), ("switch", 3.0)):
        column = topology.places[:, topology.level_index(level)]
        enters = (parent >= 0) & (column[parent] != column)
        came = np.bincount(np.tile(column, TREES)[enters.ravel()]) / TREES
        assert came.max() <= most
        assert came.mean() <= 0.7 * most


def test_shorter_than_two_trees_on_a_network_without_contention():
    topology = groups_of([16] * 4)
    network = Network(default_machine(topology), topology)
    names = ("k_trees:segments=8", "two_trees:segments=8", "two_trees:segments=32")
    for collective in ROOTED:
        times = [schedule_time(transfers(collective, name, topology), network, 1 << 20) for name in names]
        assert times[0] < 0.9 * min(times[1:])


def test_the_choice_takes_fewer_segments_where_messages_cost_more():
    chooser = Chooser(fat_tree(2, 2, 8), engine="python")
    assert chooser.choose("bcast", 1 << 20).algorithm == "k_trees:segments=8"
    offered = chooser._candidates(
        "reduce", 1 << 20, ordered=False, whole=False
    )  # which is taken, is the model's business
    assert [name for name in offered if name.startswith("k_trees")] == ["k_trees:segments=2"]
