"""The traffic model against plain counting, and the lower bounds against every schedule."""

import doctest
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import topologies
from test_algorithms import ENTRIES, NAMES, ROOTED

from topocomm import AlgorithmError, ScheduleError, Topology, TopologyError
from topocomm.algorithms import make_schedule
from topocomm.collectives import COLLECTIVES, PREFIXES
from topocomm.model import Traffic, bytes_across, bytes_between, list_messages, traffic
from topocomm.topology import groups_of, reorder_ranks, two_level


def schedule_for(data, topology):
    able = [a for a in ENTRIES if not (a.power_of_two and topology.size & (topology.size - 1))]
    algorithm = data.draw(st.sampled_from(able))
    root = data.draw(st.integers(0, topology.size - 1)) if algorithm.collective in ROOTED else 0
    return make_schedule(algorithm.collective, algorithm.name, topology, root)


@given(topologies(max_ranks=16), st.integers(0, 9), st.data())
def test_traffic_is_what_counting_gives(topology, block, data):
    schedule = schedule_for(data, topology)
    found = Traffic(list_messages(schedule, block), topology)
    plain = [
        (r, s.peer, len(s.slots) * block)
        for r in range(topology.size)
        for rnd in schedule.part(r).rounds
        for s in rnd.sends
        if s.peer != r
    ]
    assert len(found.messages) == len(plain)
    assert found.messages.sent().tolist() == [sum(n for a, _, n in plain if a == r) for r in range(topology.size)]
    assert found.messages.received().tolist() == [sum(n for _, b, n in plain if b == r) for r in range(topology.size)]
    for i, level in enumerate(topology.levels):
        place = topology.places[:, i]
        across = [(place[a], place[b], n) for a, b, n in plain if place[a] != place[b]]
        assert found.bytes_between(level) == sum(n for *_, n in across)
        assert found.messages_between(level) == len(across)
        pairs = found.pairs(level)
        for a, b, nbytes, count in zip(pairs.source, pairs.target, pairs.nbytes, pairs.messages, strict=True):
            assert (nbytes, count) == (
                sum(n for x, y, n in across if (x, y) == (a, b)),
                sum((x, y) == (a, b) for x, y, _ in across),
            )
        assert pairs.messages.sum() == len(across)
        for q in range(place.max() + 1):
            assert found.egress(level)[q] == sum(n for a, _, n in across if a == q)
            assert found.ingress(level)[q] == sum(n for _, b, n in across if b == q)
        most = max([*found.egress(level), *found.ingress(level)])
        assert found.busiest_place(level) == found.fraction(most)
        assert found.busiest_pair(level) == found.fraction(max(pairs.nbytes, default=0))
    crossing = found.crossing()
    assert sum(n for n, _ in crossing.values()) == sum(n for *_, n in plain)
    assert sum(c for _, c in crossing.values()) == len(plain)
    for i, level in enumerate(topology.levels):
        assert sum(crossing[x][0] for x in topology.levels[: i + 1]) == found.bytes_between(level)


@pytest.mark.parametrize("algorithm", ENTRIES, ids=NAMES)
@settings(max_examples=15)
@given(topology=topologies(max_ranks=16), data=st.data())
def test_no_schedule_is_below_a_bound(algorithm, topology, data):
    if algorithm.power_of_two and topology.size & (topology.size - 1):
        return
    root = data.draw(st.integers(0, topology.size - 1)) if algorithm.collective in ROOTED else 0
    schedule = make_schedule(algorithm.collective, algorithm.name, topology, root)
    found = Traffic(list_messages(schedule), topology)
    for i, level in enumerate(topology.levels):
        assert found.between(level) >= bytes_between(algorithm.collective, topology, level, root)
        for place in range(topology.places[:, i].max() + 1):
            out, into = bytes_across(algorithm.collective, topology.places[:, i] == place, root)
            assert found.fraction(found.egress(level)[place]) >= out
            assert found.fraction(found.ingress(level)[place]) >= into


@given(topologies(min_ranks=2, max_ranks=12), st.data())
def test_bounds_between_places_are_no_less_than_the_cuts_say(topology, data):
    root = data.draw(st.integers(0, topology.size - 1))
    for collective in COLLECTIVES:
        for i, level in enumerate(topology.levels):
            cuts = [
                bytes_across(collective, topology.places[:, i] == q, root)
                for q in range(topology.places[:, i].max() + 1)
            ]
            least = bytes_between(collective, topology, level, root)
            assert least >= sum(out for out, _ in cuts)
            assert least >= sum(into for _, into in cuts)


def test_bounds_that_are_met():
    """Some schedule meets each bound, so that none of them is too low there."""
    machine = reorder_ranks(groups_of([7, 1, 13, 5, 2]), "random:1")
    met = {
        "allgather": "bruck",
        "reduce_scatter": "circulant",
        "reduce_scatter_block": "circulant",
        "allreduce": "rabenseifner",
        "alltoall": "pairwise",
        "bcast": "binomial",
        "reduce": "binomial",
        "barrier": "dissemination",
    }
    for collective, name in met.items():
        found = Traffic(
            list_messages(make_schedule(collective, name, machine, 9 if collective in ROOTED else 0)), machine
        )
        assert found.between("group") == bytes_between(collective, machine, "group", 9), collective
    for collective in PREFIXES:
        chain = groups_of([5, 1, 3, 2])
        found = Traffic(
            list_messages(make_schedule(collective, "prefix_doubling", groups_of([5, 3]))), groups_of([5, 3])
        )
        assert found.between("group") == bytes_between(collective, groups_of([5, 3]), "group") == 1
        assert bytes_between(collective, chain, "group") == 3
        parted = Topology(("group",), [(0,), (1,), (2,), (1,)])  # the second needs something twice
        assert bytes_between(collective, parted, "group") == 3
    for collective in ("gather", "scatter"):
        pair = groups_of([5, 3])
        found = Traffic(list_messages(make_schedule(collective, "binomial", pair, 2)), pair)
        assert found.between("group") == bytes_between(collective, pair, "group", 2) == Fraction(3, 8)


def test_unequal_blocks():
    machine, counts = groups_of([2, 1]), [5, 0, 7]
    for name in ("bruck", "textbook_ring", "textbook_bruck", "bruck:direct"):
        messages = list_messages(make_schedule("allgather", name, machine), counts)
        assert messages.vector == 12
        assert messages.received().tolist() == [7, 12, 5]
    assert list_messages(make_schedule("gather", "binomial", machine, 1), counts).received().sum() >= 12
    shares = np.array(counts)
    inside = machine.places[:, 0] == 0
    assert bytes_across("allgather", inside, counts=shares) == (Fraction(5, 12), Fraction(7, 12))
    assert bytes_between("gather", machine, "group", 0, shares) == Fraction(7, 12)


def test_whole_vectors_count_one_block():
    messages = list_messages(make_schedule("bcast", "binomial", two_level(2, 2)), [10])
    assert (messages.vector, messages.nbytes.tolist(), len(messages)) == (10, [10, 10, 10], 3)


def test_barrier_sends_messages_without_bytes():
    machine = two_level(4, 2)
    found = Traffic(list_messages(make_schedule("barrier", "dissemination", machine)), machine)
    assert (found.between("node"), found.messages_between("node")) == (0, 8)


def test_messages_of_one_round():
    messages = list_messages(make_schedule("allgather", "textbook_ring", Topology.flat(4)))
    first = messages.where(messages.round == 0)
    assert (len(messages), len(first), first.source.tolist()) == (12, 4, [0, 1, 2, 3])


def test_what_does_not_fit_is_refused():
    ring = make_schedule("allgather", "ring", Topology.flat(4))
    with pytest.raises(ScheduleError, match="needs 4 block sizes, got 3"):
        list_messages(ring, [1, 2, 3])
    with pytest.raises(ScheduleError, match="needs blocks of one size"):
        list_messages(make_schedule("alltoall", "pairwise", Topology.flat(4)), [1, 2, 3, 4])
    with pytest.raises(TopologyError, match="the schedule has 4 ranks, the topology 5"):
        Traffic(list_messages(ring), Topology.flat(5))
    with pytest.raises(TopologyError, match="unknown level 'rack'"):
        Traffic(list_messages(ring), Topology.flat(4)).between("rack")
    for call in (
        lambda: bytes_between("alltoallw", two_level(2, 2), "node"),
        lambda: bytes_across("alltoallw", np.array([True, False])),
    ):
        with pytest.raises(AlgorithmError, match="no bound is known for collective 'alltoallw'"):
            call()


def test_the_example_in_the_header():
    assert doctest.testmod(traffic).failed == 0
    assert doctest.testmod(traffic).attempted > 0
