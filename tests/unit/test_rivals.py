"""Published rivals: what their papers say of them, beyond what holds for every algorithm of the table."""

import numpy as np
import pytest

from topocomm import ScheduleError, Topology
from topocomm.algorithms import make_schedule
from topocomm.algorithms.bruck import radices_of
from topocomm.algorithms.rivals import bine, multilane, pat, recexch, sparbit, swing
from topocomm.model import Traffic, list_messages
from topocomm.schedule import Combine, RankSchedule, Schedule, exchange
from topocomm.schedule.verify import verify
from topocomm.topology import dragonfly, fat_tree, groups_of, reorder_ranks, two_level


@pytest.mark.parametrize("p", [2, 4, 6, 8, 12, 48, 64])
def test_swing_meets_the_ranks_of_its_paper(p):
    """Step s: r + ρ(s) for even r, r − ρ(s) for odd r; ρ(s) = Σ (−2)^i."""
    for r in range(p):
        peers = [rnd.sends[0].peer for rnd in swing.reduce_scatter(p, r)]
        rho = [sum((-2) ** i for i in range(s + 1)) for s in range(bine.steps(p))]
        assert peers == [(r + (-x if r % 2 else x)) % p for x in rho]


@pytest.mark.parametrize("p", [3, 5, 13, 33, 101])
def test_the_odd_rank_of_swing_sends_one_vector_in_shares_like_the_others(p):
    schedule = make_schedule("allreduce", "textbook_swing", Topology.flat(p))
    verify(schedule)
    shares = [len(rnd.sends) for rnd in swing.reduce_scatter(p, p - 1)]
    assert sum(shares) == schedule.nslots == p - 1
    assert shares == [len(away) + (i == len(shares) - 1) for i, away in enumerate(bine.leaving(p - 1))]


def test_whole_vectors_along_swing_give_different_bits():
    """Why the form of least latency is not offered."""

    def part(r):
        peers = [(r + (-bine.distance(i) if r % 2 else bine.distance(i))) % 8 for i in range(3)]
        body = [exchange(q, range(1), range(1), Combine.BEFORE if q < r else Combine.AFTER) for q in peers]
        return RankSchedule(range(1), tuple(body), range(1))

    with pytest.raises(ScheduleError, match="in another order than rank 0: bits may differ"):
        verify(Schedule(8, 1, part, collective="allreduce", algorithm="swing"))


@pytest.mark.parametrize("p", [2, 5, 16, 23, 64])
def test_pat_aggregates_no_more_than_it_may(p):
    assert pat.steps(p) is sparbit.steps(p)
    for most in (1, 2, 3, 8, p):
        steps = pat.steps(p, most)
        assert sum(len(offsets) for _, offsets in steps) == p - 1
        assert max(len(offsets) for _, offsets in steps) <= most
        verify(make_schedule("allgather", f"textbook_pat:aggregate={most}", Topology.flat(p)))
        verify(make_schedule("reduce_scatter", f"textbook_pat:aggregate={most}", Topology.flat(p)))
    if p & (p - 1) == 0:
        assert len(pat.steps(p, 2)) == 1 + p // 2 - 1
    assert [d for d, _ in steps] == sorted((d for d, _ in steps), reverse=True)


@pytest.mark.parametrize("radix", [2, 3, 4, 7])
def test_recursive_exchange_ends_near_and_its_messages_are_runs(radix):
    for p in (1, 2, radix, radix**2, radix**3, radix**2 + 1, radix**3 - 1):
        for collective in ("allgather", "reduce_scatter"):
            schedule = make_schedule(collective, f"textbook_recexch:radix={radix}", Topology.flat(p))
            verify(schedule)
            for r in range(p):
                ops = [op for rnd in schedule.part(r).rounds for op in (*rnd.sends, *rnd.recvs)]
                assert all(isinstance(op.slots, range) for op in ops)
    last = make_schedule("allgather", f"textbook_recexch:radix={radix}", Topology.flat(radix**3)).part(0).rounds[-1]
    assert [s.peer for s in last.sends] == list(range(1, radix))


def test_recursive_exchange_counts_what_it_sends_in_any_radix():
    for p in (1, 7, 16, 27, 29):
        for radix in (2, 3, 5, 40):
            schedule = make_schedule("reduce_scatter", f"textbook_recexch:radix={radix}", Topology.flat(p))
            sent = np.zeros(p, np.int64)
            for row in recexch.exchanges(p, radix):
                np.add.at(sent, row.source, row.blocks)
            assert (list_messages(schedule).sent() == sent).all()


@pytest.mark.parametrize(
    ("topology", "ranks"),
    [
        (Topology.flat(6), 1),
        (groups_of([3, 4]), 1),
        (two_level(4, 3), 3),
        (fat_tree(2, 3, 4, 1), 4),
        (reorder_ranks(dragonfly(3, 2, 4), "random:1"), 4),
        (two_level(1, 5), 1),
    ],
)
def test_nodes_of_multilane(topology, ranks):
    """The innermost level whose places are equal and hold several ranks; else every rank is a node."""
    assert multilane.nodes(topology) == ranks
    seen = multilane.lanes(topology)
    assert (seen.order == topology.order).all()
    assert len(seen.nesting) == (3 if ranks > 1 else 2)
    for root in range(topology.size):
        verify(make_schedule("bcast", "multilane", topology, root))


def test_multilane_sends_the_least_between_nodes_and_busies_all_lanes():
    topology = reorder_ranks(two_level(4, 8), "cyclic")
    for collective, vectors in (("allreduce", 6), ("allgather", 3), ("reduce_scatter", 3), ("bcast", 3)):
        messages = list_messages(make_schedule(collective, "multilane", topology))
        assert Traffic(messages, topology).between("node") == vectors
        places = topology.places[:, 0]
        leaving = messages.where(places[messages.source] != places[messages.target])
        sent = np.bincount(leaving.source, weights=leaving.nbytes, minlength=32)
        assert len(set(sent[topology.order[:8]])) == 1


def test_radices_are_given_nearest_level_first():
    assert radices_of((4, 5, 6), (2,)) == [2, 2, 2]
    assert radices_of((4, 5, 6), (9, 3)) == [3, 3, 9]
    assert radices_of((4,), (9, 3)) == [9]
    machine = two_level(4, 8)
    near_direct = make_schedule("alltoall", "bruck:radix=8/2", machine)
    verify(near_direct)
    assert len(near_direct.part(0).rounds) == 1 + 2
    assert len(make_schedule("alltoall", "bruck:radix=2/8", machine).part(0).rounds) == 3 + 1
