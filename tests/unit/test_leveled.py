"""Patterns per level, two trees, the shuffled all-to-all, and places in the order of their labels."""

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import topologies
from test_model_transfers import same

from topocomm import AlgorithmError, Topology
from topocomm.algorithms import make_schedule
from topocomm.algorithms.leveled import patterns, promising
from topocomm.algorithms.shuffled import circle
from topocomm.model import (
    Level,
    Machine,
    Network,
    default_machine,
    list_transfers,
    schedule_time,
    time_bound,
    transfers,
)
from topocomm.schedule.verify import verify
from topocomm.topology import fat_tree, groups_of, in_label_order, reorder_ranks, torus

COLLECTIVES = ("allreduce", "allgather", "reduce_scatter", "bcast", "reduce")
ROOTED = ("bcast", "reduce")
UNEQUAL = Topology(("group", "node"), [(0, 0)] * 3 + [(1, 1)] * 1 + [(1, 2)] * 4 + [(2, 3)] * 2 + [(2, 4)] * 2)
LINK = 12.5e9


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_every_pattern_is_proved_and_listed_on_unequal_places(collective):
    for topology in (UNEQUAL, reorder_ranks(UNEQUAL, "random:5"), groups_of([1, 3])):
        depth = len(topology.nesting) - 1
        found = list(patterns(collective, depth))
        assert len(found) == len(set(found)) == 3**depth + (collective == "allreduce") * sum(3**d for d in range(depth))
        for letters in found:
            root = 2 if collective in ROOTED else 0
            verify(make_schedule(collective, f"leveled:levels={letters}", topology, root))
            same(collective, f"leveled:levels={letters}", topology, root)


@settings(max_examples=30)
@given(topology=topologies(max_ranks=20), collective=st.sampled_from(COLLECTIVES), data=st.data())
def test_patterns_are_proved_on_random_places(topology, collective, data):
    letters = data.draw(st.sampled_from(list(patterns(collective, len(topology.nesting) - 1))))
    name = f"leveled:levels={letters}" if letters else "leveled"
    root = data.draw(st.integers(0, topology.size - 1)) if collective in ROOTED else 0
    verify(make_schedule(collective, name, topology, root))
    same(collective, name, topology, root)


def test_doubling_needs_fewer_rounds_and_keeps_shares_inside():
    topology = fat_tree(2, 4, 8)
    rounds = {
        x: len(make_schedule("allreduce", f"leveled:levels={x}", topology).part(0).rounds) for x in ("xxd", "hhh")
    }
    assert rounds == {"xxd": 1 + 3 + 1, "hhh": 2 * 6}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("leveled:levels=dd", "each of the 3 levels"),
        ("leveled:levels=ddq", "letters h, d, r"),
        ("leveled:levels=dxd", "x must come first"),
        ("ring:levels=ddd", "takes no levels; those that do are leveled"),
        ("ring:segments=3", "takes no segments"),
        ("leveled:levels=", "unknown option"),
    ],
)
def test_bad_patterns_are_named(text, says):
    with pytest.raises(AlgorithmError, match=says):
        make_schedule("allreduce", text, fat_tree(2, 2, 2))


def test_x_is_for_allreduce_only():
    with pytest.raises(AlgorithmError, match="levels=xdd needs one of the letters h, d, r"):
        make_schedule("allgather", "leveled:levels=xdd", fat_tree(2, 2, 2))


def small_torus() -> Machine:
    levels = tuple(Level(name, LINK, LINK, 0.25e-6) for name in ("dim0", "dim1", "node"))
    return Machine("torus", levels, Level("rank", LINK, LINK, 0.0), 0.5e-6, (4, 4, 2))


@pytest.mark.parametrize("order", ["sorted", "random:2"])
@pytest.mark.parametrize("nbytes", [1024, 1 << 18, 1 << 24])
def test_promising_patterns_are_nearly_the_best(order, nbytes):
    network = Network(small_torus(), reorder_ranks(torus((4, 4, 2)), order))
    for collective in ("allreduce", "allgather"):
        names = [f"leveled:levels={x}" for x in patterns(collective, 3)]
        times = {n: schedule_time(transfers(collective, n, network.topology), network, nbytes) for n in names}
        price = partial(schedule_time, network=network, nbytes=nbytes)
        picked = [f"leveled:{option}" for option in promising(collective, network.topology, price)]
        assert 1 <= len(picked) <= 4
        assert min(times[n] for n in picked) <= 1.02 * min(times.values())


def test_rings_follow_the_torus_whatever_the_order_of_ranks():
    topology = reorder_ranks(torus((4, 3, 5)), "random:7")
    where = topology.labels.astype(int)
    listed = transfers("allgather", "leveled:levels=rrr", topology)
    steps = np.abs(where[listed.source] - where[listed.target])
    assert np.minimum(steps, np.array([4, 3, 5]) - steps).sum(axis=1).max() == 1


def test_label_order_keeps_the_places():
    topology = reorder_ranks(fat_tree(3, 2, 4), "random:1")
    found = in_label_order(topology)
    assert found.labels.tolist() == topology.labels.tolist()
    for level in topology.levels:
        assert sorted(map(tuple, found.groups(level))) == sorted(map(tuple, topology.groups(level)))
    assert found.labels[found.order].tolist() == sorted(topology.labels.tolist())
    named = in_label_order(Topology(("rack", "node"), [("r10", "n1"), ("r9", "n10"), ("r9", "n2"), ("r010", "x")]))
    assert named.order.tolist() == [2, 1, 3, 0]
    numbered = in_label_order(Topology(("rack", "node"), [("10", "b"), ("9", "a"), ("9", "c"), ("10", "a")]))
    assert numbered.order.tolist() == [1, 2, 3, 0]


@settings(max_examples=30)
@given(topology=topologies(max_ranks=24), segments=st.integers(1, 5), data=st.data())
def test_two_trees_are_proved_and_nobody_sends_much_more_than_the_vector(topology, segments, data):
    root = data.draw(st.integers(0, topology.size - 1))
    for collective in ROOTED:
        name = f"two_trees:segments={segments}"
        verify(make_schedule(collective, name, topology, root))
        listed = transfers(collective, name, topology, root)
        sent = np.bincount(listed.source, weights=listed.blocks, minlength=topology.size)
        assert sent.max(initial=0) <= max(listed.vector, 1)


@pytest.mark.parametrize("p", [2, 3, 8, 31, 64, 100])
def test_two_trees_are_shallow(p):
    rounds = [len(make_schedule("reduce", "two_trees:segments=4", Topology.flat(p)).part(r).rounds) for r in range(p)]
    assert max(rounds) <= 4 + (p - 1).bit_length()


@pytest.mark.parametrize("p", [1, 2, 5, 33, 70])
def test_shuffled_sends_every_block_once_and_in_no_order(p):
    assert sorted(circle(p)) == list(range(p))
    for topology in (
        Topology.flat(p),
        reorder_ranks(groups_of([p // 2, p - p // 2]) if p > 1 else Topology.flat(1), "random:1"),
    ):
        verify(make_schedule("alltoall", "shuffled", topology))
        listed = transfers("alltoall", "shuffled", topology)
        assert len(set(zip(listed.source.tolist(), listed.target.tolist(), strict=True))) == p * (p - 1) == len(listed)


def test_shuffled_uses_all_pairs_of_groups_in_every_round():
    topology = groups_of([32] * 4)
    listed = transfers("alltoall", "shuffled", topology)
    group = topology.places[:, 0]
    for number in np.unique(listed.send_round):
        here = listed.send_round == number
        pairs = np.bincount(group[listed.source[here]] * 4 + group[listed.target[here]], minlength=16)
        assert pairs.min() > 0.8 * pairs.max()
    plain = transfers("alltoall", "scattered", topology)
    first = plain.send_round == plain.send_round.min()
    used = set(zip(group[plain.source[first]].tolist(), group[plain.target[first]].tolist(), strict=True))
    assert len(used) < len(list(itertools.product(range(4), repeat=2)))


@pytest.mark.parametrize("collective", ["allreduce", "allgather", "reduce_scatter"])
def test_messages_of_a_round_leave_in_the_order_of_the_schedule(collective):
    """Whom a rank sends to first matters: if all began with the same one, its link would be the bottleneck."""
    network = Network(small_torus(), torus((4, 4, 2)))
    listed = list_transfers(make_schedule(collective, "leveled:levels=ddd", network.topology))
    made = transfers(collective, "leveled:levels=ddd", network.topology)
    for nbytes in (1 << 16, 1 << 20):
        times = [schedule_time(t, network, nbytes, window=0) for t in (listed, made)]
        assert times[0] == pytest.approx(times[1])


@pytest.mark.parametrize("segments", [2, 5])
def test_segments_are_proved_and_listed_on_unequal_places(segments):
    """Three and five places fold in the doubling, where a rank that sits out must keep step with the others."""
    fives = Topology(("group",), [[i % 5] for i in range(11)])
    for topology in (UNEQUAL, reorder_ranks(UNEQUAL, "random:5"), groups_of([1, 3]), fives):
        depth = len(topology.nesting) - 1
        for letters in ("d" * depth, "h" * depth, "r" * depth, "x" * depth, "x" + "h" * (depth - 1)):
            name = f"leveled:levels={letters},segments={segments}"
            verify(make_schedule("allreduce", name, topology))
            same("allreduce", name, topology, 0)


def test_segments_overlap_the_levels():
    """Half the bandwidth between places: one level after another takes longer than the busiest link needs."""
    topology = fat_tree(2, 2, 4)
    network = Network(default_machine(topology), topology)

    def seconds(name):
        return schedule_time(transfers("allreduce", f"leveled:levels=hhh{name}", topology), network, 1 << 26)

    bound = time_bound("allreduce", network, 1 << 26).seconds
    assert seconds("") > 1.1 * bound
    assert seconds(",segments=8") < 1.01 * bound
