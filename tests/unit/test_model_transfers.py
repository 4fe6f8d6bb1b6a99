"""The transfers made for all ranks at once are those of the schedules."""

import numpy as np
import pytest
from hypothesis import given, settings
from places import topologies

from topocomm.algorithms import TABLE
from topocomm.algorithms.table import make_schedule
from topocomm.collectives import ROOTED
from topocomm.model import Traffic, bytes_between, list_transfers, transfers
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology, fat_tree, groups_of, reorder_ranks, two_level

NAMES = [(c, a) for c in TABLE for a in TABLE[c]]
PLACES = [
    Topology.flat(1),
    Topology.flat(7),
    Topology.flat(16),
    two_level(4, 4),
    fat_tree(2, 3, 2, 2),
    reorder_ranks(groups_of([7, 1, 13, 5, 2]), "random:3"),
    reorder_ranks(fat_tree(2, 2, 2, 4), "cyclic"),
]


def numbered(t: Transfers) -> list[tuple[int, ...]]:
    """Messages with the rounds of each rank counted from 0."""
    rank, sender, receiver = t.nodes
    first = np.searchsorted(rank, np.arange(t.size))
    of_node = np.arange(len(rank)) - first[rank]
    return sorted(
        zip(*(a.tolist() for a in (t.source, t.target, of_node[sender], of_node[receiver], t.blocks)), strict=True)
    )


def same(collective: str, name: str, topology: Topology, root: int) -> None:
    listed = list_transfers(make_schedule(collective, name, topology, root))
    made = transfers(collective, name, topology, root)
    assert (made.vector, made.rounds, made.messages) == (listed.vector, listed.rounds, listed.messages)
    if (made.repeat == 1).all():
        assert numbered(made) == numbered(listed)
    keys = [np.bincount(t.source * t.size + t.target, weights=t.blocks, minlength=t.size**2) for t in (made, listed)]
    assert (keys[0] == keys[1]).all()


@pytest.mark.parametrize(("collective", "name"), NAMES)
def test_every_algorithm(collective, name):
    for topology in PLACES:
        if not (TABLE[collective][name].power_of_two and topology.size & (topology.size - 1)):
            for root in {0, topology.size - 1} if collective in ROOTED else {0}:
                same(collective, name, topology, root)


@settings(max_examples=40)
@given(topologies())
def test_composed_over_places_of_any_size(topology):
    same("reduce_scatter", "recursive_halving", topology, 0)
    same("reduce_scatter", "pairwise", topology, 0)
    same("reduce", "binomial", topology, topology.size // 2)
    for collective in ("allgather", "allreduce", "reduce_scatter"):
        same(collective, "direct", topology, 0)
        same(collective, "multilane", topology, 0)


@pytest.mark.parametrize("collective", ["bcast", "reduce"])
@pytest.mark.parametrize("radices", ["2", "3", "5", "40", "3/2", "2/7/4"])
def test_trees_of_any_radix(collective, radices):
    for topology in PLACES:
        for root in {0, topology.size // 2}:
            same(collective, f"knomial:radix={radices}", topology, root)


def test_two_thousand_ranks_in_uneven_groups_reach_the_bound():
    topology = reorder_ranks(groups_of([700, 13, 512, 300, 475]), "random:1")
    t = transfers("allreduce", "rabenseifner", topology)
    assert Traffic(t.as_messages(), topology).between("group") == bytes_between("allreduce", topology, "group")


def test_a_sample_of_rounds_stands_for_all():
    t = transfers("alltoall", "pairwise", Topology.flat(300))
    assert t.sample is not None
    assert t.sample.messages == t.messages == 300 * 299
    assert t.sample.blocks.sum() == t.blocks.sum()
