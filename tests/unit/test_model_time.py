"""Fair sharing and the time of schedules."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import topologies

from topocomm.algorithms import TABLE
from topocomm.model import (
    Level,
    Machine,
    Network,
    default_machine,
    link_loads,
    machine,
    schedule_time,
    time_bound,
    transfers,
)
from topocomm.model.sharing import fair_rates
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology, dragonfly, fat_tree, reorder_ranks, torus, two_level

LINK = Level("node", 1e9, 1e9, 1e-6)
FREE = Level("rank", 1e15, 1e15, 0.0)


def simple(topology: Topology, overhead: float = 0.0, eager: float = 0.0, receiving: float = 0.0) -> Network:
    """Nodes with a link of 1 GB/s and 1 µs, ranks without limits."""
    return Network(Machine("levels", (LINK,), FREE, overhead, eager=eager), topology, receiving)


def listed(size: int, *messages: tuple[int, int, int, int]) -> Transfers:
    """Messages of a whole vector: source, target, round of either."""
    source, target, sent, received = np.array(messages).T
    ones = np.ones_like(source)
    return Transfers(size, 1, source, target, sent, received, ones, ones)


@st.composite
def flows(draw):
    links = draw(st.integers(1, 8))
    rows = draw(st.lists(st.sets(st.integers(0, links - 1), min_size=1, max_size=4), min_size=1, max_size=20))
    width = max(map(len, rows))
    routes = np.array([[*sorted(row), *[links] * (width - len(row))] for row in rows])
    speed = draw(st.lists(st.floats(0.1, 100), min_size=links, max_size=links))
    return routes, np.array([*speed, np.inf])


@settings(max_examples=100)
@given(flows())
def test_sharing_is_feasible_and_fair(case):
    routes, capacity = case
    rate = fair_rates(routes, capacity)
    used = np.array([rate[(routes == link).any(axis=1)].sum() for link in range(len(capacity))])
    assert (used <= capacity * (1 + 1e-6)).all()
    for message, row in enumerate(routes):
        full = [x for x in row if used[x] >= capacity[x] * (1 - 1e-6)]
        assert any(rate[message] >= rate[(routes == x).any(axis=1)].max() * (1 - 1e-6) for x in full)


def test_the_textbook_example():
    """Three messages over link 0, one of them also over the tight link 1, which another one shares."""
    routes = np.array([[0, 2], [0, 2], [0, 1], [1, 2]])
    assert fair_rates(routes, np.array([10.0, 4.0, np.inf])).tolist() == [4.0, 4.0, 2.0, 2.0]


def test_one_message_takes_latency_and_bytes():
    t = transfers("bcast", "binomial", two_level(2, 1))
    assert schedule_time(t, simple(two_level(2, 1), 0.5e-6), 1e6) == pytest.approx(0.5e-6 + 2e-6 + 1e-3)


def test_rounds_wait_for_each_other():
    """A binomial broadcast to 8 nodes: three rounds one after the other."""
    topology = two_level(8, 1)
    assert schedule_time(transfers("bcast", "binomial", topology), simple(topology), 1e6) == pytest.approx(3 * 1.002e-3)


def test_a_shared_link_is_shared():
    """All four ranks of a node send an eighth of the vector twice over one link: as long as the vector."""
    topology = two_level(2, 4)
    t = transfers("allreduce", "rabenseifner", topology)
    assert schedule_time(t, simple(topology), 1e6) == pytest.approx(1e-3 + 2 * 2e-6, rel=1e-4)


def test_a_repeated_round_takes_as_long_as_its_rounds():
    topology = two_level(5, 1)
    t = transfers("allgather", "ring", topology)
    assert schedule_time(t, simple(topology), 5e6) == pytest.approx(4 * 1.002e-3)
    assert schedule_time(t, simple(topology, receiving=1e-3), 5e6) == pytest.approx(4 * 2.002e-3)


def test_an_eager_message_frees_its_sender():
    """Rank 0 sends to 1 and, a round later, to 2: after an overhead, not after the first message is there."""
    nodes, t = two_level(3, 1), listed(3, (0, 1, 0, 0), (0, 2, 1, 0))
    for nbytes, eager, took in (
        (1000, 1000, 2 * 0.5 + 2 + 0.5 + 1),  # 1 us of bytes; the second begins 0.5 us later and shares the link
        (1001, 1000, 2 * (0.5 + 2 + 1.001)),
        (1000, 0, 2 * (0.5 + 2 + 1)),
        (0, 0, 2 * (0.5 + 2)),
    ):
        seconds = schedule_time(t, simple(nodes, 0.5e-6, eager), nbytes, 0.0)
        assert seconds == pytest.approx(took * 1e-6), (nbytes, eager)


def test_an_eager_message_does_not_wait_for_its_receiver():
    """Rank 2 takes a long message from 0 before the short one from 1, which came long before."""
    nodes = two_level(3, 1)
    t = dataclasses.replace(listed(3, (0, 2, 0, 0), (1, 2, 0, 1)), vector=2000, blocks=np.array([2000, 1]))
    long = 2 + 2000 + 1
    assert schedule_time(t, simple(nodes, eager=1e3), 2e6, 0.0) * 1e6 == pytest.approx(long)  # the link is shared
    assert schedule_time(t, simple(nodes), 2e6, 0.0) * 1e6 == pytest.approx(2 + 2000 + 2 + 1)


def test_eager_messages_between_two_ranks_queue():
    """Ten messages of 1 us each, at once: the first is there after one of them; the third rank passes it on."""
    nodes = two_level(3, 1)
    there = [(0, 1, i, 0 if i == 0 else i + 1) for i in range(10)]
    t = listed(3, *there, (1, 2, 1, 0))
    assert schedule_time(t, simple(nodes, eager=1e4), 1000, 0.0) * 1e6 == pytest.approx(2 + 10)
    first = listed(3, *there[:5], (1, 2, 1, 0))
    assert schedule_time(first, simple(nodes, eager=1e4), 1000, 0.0) * 1e6 == pytest.approx(2 + 5)
    assert schedule_time(listed(3, there[0], (1, 2, 1, 0)), simple(nodes, eager=1e4), 1000) * 1e6 == pytest.approx(6)


@pytest.mark.parametrize(
    ("collective", "name"),
    [
        ("bcast", "binomial"),
        ("bcast", "knomial"),
        ("bcast", "pipeline"),
        ("bcast", "two_trees:segments=8"),
        ("bcast", "scatter_allgather"),
        ("reduce", "two_trees:segments=8"),
        ("allgather", "textbook_bruck"),
    ],
)
def test_eager_messages_on_slow_links_arrive_no_later_than_by_rendezvous(collective, name):
    """Bytes decide, at 5 MB/s: what leaves early must not slow down what left before."""
    topology = reorder_ranks(Topology(("rack", "node"), [(f"r{i // 4}", f"h{i}") for i in range(16)]), "cyclic")
    slow = Machine("levels", (Level("rack", 5e6, 5e6, 2e-5), Level("node", 5e6, 5e6, 2e-5)))
    t = transfers(collective, name, topology)
    for nbytes in (1 << 10, 1 << 13, 1 << 16):
        eager, waiting = (
            schedule_time(t, Network(dataclasses.replace(slow, eager=e), topology), nbytes, 0.0) for e in (8192, 0)
        )
        assert eager <= waiting * (1 + 1e-9)


@pytest.mark.parametrize("eager", [0.0, 1e4])
def test_what_came_occupies_its_receiver(eager):
    """Seven children at once: 7 us of bytes into the root, or 3 us of combining each, the last after the last came."""
    nodes = two_level(8, 1)
    t = transfers("reduce", "knomial:radix=8", nodes)
    assert schedule_time(t, simple(nodes, 0.5e-6, eager), 1000) * 1e6 == pytest.approx(0.5 + 2 + 7)
    taken = schedule_time(t, simple(nodes, 0.5e-6, eager, 3e-6), 1000) * 1e6
    assert taken == pytest.approx(0.5 + 2 + 7 + 7 * 3)  # all come at the same moment
    chain = listed(3, (0, 1, 0, 0), (1, 2, 1, 0))
    assert schedule_time(chain, simple(two_level(3, 1), 0.0, eager, 3e-6), 1000) * 1e6 == pytest.approx(2 * (2 + 1 + 3))


def test_early_messages_are_taken_in_when_their_round_begins():
    """Rank 1 combines 5 us for each: that of 0, which came while it waited for that of 2, comes second."""
    nodes = two_level(3, 1)
    t = dataclasses.replace(listed(3, (2, 1, 0, 0), (0, 1, 0, 1)), vector=100, blocks=np.array([100, 1]))
    found = schedule_time(t, simple(nodes, eager=1e3, receiving=5e-6), 1e5, 0.0) * 1e6
    assert found == pytest.approx(2 + 100 + 1 + 5 + 5)


def test_a_ring_of_small_messages_takes_mean_latencies():
    """Of four links between eight nodes around, two cost 2 us more: who is late there was early elsewhere."""
    nodes = two_level(4, 2)
    near = Level("core", 1e12, 1e12, 0.5e-6)
    labelled = Topology(("node", "core"), [(str(i // 2), str(i)) for i in range(8)])
    machine_ = Machine("levels", (LINK, near), FREE, 0.0, eager=1e3)
    t = transfers("allgather", "ring", labelled)
    mean = (4 * 1.0 + 4 * 3.0) / 8
    assert nodes.size == labelled.size
    assert schedule_time(t, Network(machine_, labelled), 0) * 1e6 == pytest.approx(3 + 6 * mean, rel=0.02)
    waiting = Network(dataclasses.replace(machine_, eager=0), labelled)
    assert schedule_time(t, waiting, 0) * 1e6 == pytest.approx(7 * 3.0)


def test_no_messages_take_no_time():
    assert (
        schedule_time(transfers("allreduce", "rabenseifner", Topology.flat(1)), simple(Topology(("node",), [[0]])), 9)
        == 0
    )


CASES = [(c, a) for c in TABLE for a in TABLE[c]]
MACHINES = [
    (machine.fat_tree(2, 2, oversubscription=2), reorder_ranks(fat_tree(2, 2, 2, 2), "random:1")),
    (machine.dragonfly(), reorder_ranks(dragonfly(4, 2, 2), "cyclic")),
    (machine.dragonfly(spines=2), dragonfly(4, 2, 2)),
    (machine.torus((4, 4)), reorder_ranks(torus((4, 4)), "random:2")),
]


@pytest.mark.parametrize(("collective", "name"), CASES)
def test_never_below_the_bound(collective, name):
    for described, topology in MACHINES:
        network = Network(described, topology)
        t = transfers(collective, name, topology)
        for nbytes in (0, 1, 4096, 1 << 22):
            seconds = schedule_time(t, network, nbytes)
            bound, loads = time_bound(collective, network, nbytes), link_loads(t, network, nbytes)
            assert seconds >= max(bound.latency, loads.busiest_seconds) * (1 - 1e-9)
            assert loads.busiest_seconds >= bound.bandwidth * (1 - 1e-9)


@settings(max_examples=40)
@given(topologies(min_ranks=2), st.integers(0, 1 << 24), st.sampled_from(CASES))
def test_any_placement_respects_the_bound_and_more_bytes_take_longer(topology, nbytes, case):
    collective, name = case
    if TABLE[collective][name].power_of_two and topology.size & (topology.size - 1):
        return
    network = Network(default_machine(topology), topology)
    t = transfers(collective, name, topology)
    seconds = schedule_time(t, network, nbytes)
    assert seconds >= time_bound(collective, network, nbytes).seconds * (1 - 1e-9)
    assert schedule_time(t, network, 2 * nbytes) >= seconds * (1 - 1e-9)


@pytest.mark.parametrize("order", ["sorted", "cyclic", "random:1"])
def test_windows_change_little(order):
    topology = reorder_ranks(fat_tree(4, 2, 8), order)
    network = Network(default_machine(topology), topology)
    for name in ("rabenseifner", "textbook_rabenseifner", "textbook_recursive_doubling"):
        t = transfers("allreduce", name, topology)
        exact = schedule_time(t, network, 1 << 20, 0.0)
        assert schedule_time(t, network, 1 << 20, 0.1) == pytest.approx(exact, rel=0.1)


def test_very_many_messages_take_about_as_long_as_told_one_by_one():
    topology = reorder_ranks(fat_tree(4, 8, 8), "random:1")
    network = Network(default_machine(topology), topology)
    t = transfers("alltoall", "textbook_pairwise", topology)
    assert t.sample is not None
    every = schedule_time(dataclasses.replace(t, sample=None), network, 1 << 24)
    assert schedule_time(t, network, 1 << 24) == pytest.approx(every, rel=0.15)


def test_messages_within_a_window_take_no_less_than_the_links_need():
    topology = reorder_ranks(fat_tree(4, 2, 8), "random:5")
    network = Network(default_machine(topology), topology)
    t = transfers("alltoall", "textbook_pairwise", topology)
    assert schedule_time(t, network, 1 << 22, 0.5) >= link_loads(t, network, 1 << 22).busiest_seconds * (1 - 1e-9)
