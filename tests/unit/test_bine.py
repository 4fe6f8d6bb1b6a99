"""Bine trees as a baseline: proved for every number of ranks, and with the costs the table claims."""

import pytest

from topocomm.algorithms.rivals import bine
from topocomm.algorithms.table import TABLE, make_schedule
from topocomm.schedule.verify import verify
from topocomm.topology import Topology

SIZES = [*range(1, 18), *range(18, 66, 2), 96, 100, 126, 128]


def test_distances_are_those_of_the_paper():
    assert [bine.distance(i) for i in range(6)] == [1, -1, 3, -5, 11, -21]


@pytest.mark.parametrize("p", range(2, 130, 2))
def test_every_block_leaves_once(p):
    assert sorted(c for step in bine.leaving(p) for c in step) == list(range(1, p))


def test_steps_of_every_block_chain_up_to_many_ranks():
    for p in range(2, 600, 2):
        step = {0: bine.steps(p)} | {int(c): i for i, away in enumerate(bine.leaving(p)) for c in away}
        assert all(c == 0 or step[(bine.distance(i) - c) % p] > i for c, i in step.items())


@pytest.mark.parametrize("p", [*range(66, 96, 8), 98, 114])
def test_reduce_scatter_is_correct_for_more_even_ranks(p):
    verify(make_schedule("reduce_scatter", "textbook_bine", Topology.flat(p)))


@pytest.mark.parametrize("collective", ["allgather", "allreduce", "reduce_scatter"])
def test_correct_with_the_costs_of_the_table(collective):
    entry = TABLE[collective]["textbook_bine"]
    for p in SIZES:
        schedule = make_schedule(collective, "textbook_bine", Topology.flat(p))
        verify(schedule)
        parts = [schedule.part(r) for r in range(p)]
        assert max(len(part.rounds) for part in parts) <= entry.rounds(p)
        sent = max(sum(len(s.slots) for rnd in part.rounds for s in rnd.sends) for part in parts)
        assert sent <= entry.sent(p) * schedule.nslots
