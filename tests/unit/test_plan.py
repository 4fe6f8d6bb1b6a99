"""Plans: where slots live, that nothing overlaps, how much is copied, and counts beyond any memory."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import topologies
from test_algorithms import ENTRIES, NAMES, ROOTED, able

from topocomm import Topology
from topocomm.algorithms import make_schedule
from topocomm.plan import LARGEST, RECV, SCRATCH, SEND, Message, block_cuts, make_plan
from topocomm.topology import groups_of, two_level

WHOLE = ("allreduce", "reduce", "reduce_scatter", "reduce_scatter_block", "bcast")


def counts_of(schedule, elements):
    """Sizes of blocks: the vector cut evenly, or all blocks alike."""
    blocks = max(max(len(schedule.part(r).load), len(schedule.part(r).store)) for r in range(schedule.size))
    blocks //= schedule.pieces
    return np.diff(block_cuts(elements, blocks)) if schedule.collective in WHOLE else elements


def room(schedule, rank, counts):
    """Bytes (of one-byte elements) of the caller's buffers of a rank."""
    part = schedule.part(rank)
    if isinstance(counts, int):
        return len(part.load) // schedule.pieces * counts, len(part.store) // schedule.pieces * counts
    total = int(counts.sum())
    stored = int(counts[rank]) if schedule.collective.startswith("reduce_scatter") else total
    return (total if len(part.load) else 0), (stored if len(part.store) else 0)


def pieces(move):
    """(source, target, bytes) of every piece of a move."""
    yield from move.pieces
    for take, put in zip(move.take.tolist(), move.put.tolist(), strict=True):
        yield take * move.unit, put * move.unit, move.unit


def moves(plan):
    yield from plan.load
    yield from plan.store
    for rnd in plan.rounds:
        yield from (*rnd.pack, *rnd.local, *rnd.unpack)
        for red in rnd.reductions:
            yield from (*red.gather, *red.scatter)


def messages(plan):
    for rnd in plan.rounds:
        yield from (*rnd.sends, *rnd.recvs)
        for red in rnd.reductions:
            yield from (red.received, red.held)


def overlap(a: Message, b: Message) -> bool:
    return a.region == b.region and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes


def check_plan(plan, sizes, itemsize):
    for m in messages(plan):
        assert m.offset >= 0
        assert m.offset + m.nbytes <= sizes[m.region], "a message reaches beyond its region"
    for move in moves(plan):
        assert move.target != SEND, "the caller's send buffer is written"
        for source, target, n in pieces(move):
            assert 0 <= source <= source + n <= sizes[move.source]
            assert 0 <= target <= target + n <= sizes[move.target]
    for rnd in plan.rounds:
        held = [red.held for red in rnd.reductions]
        for m in (*rnd.recvs, *held):
            assert m.region != SEND, "a message arrives in the caller's send buffer"
        for a, b in itertools.combinations(rnd.recvs, 2):
            assert not overlap(a, b), "two messages arrive in one place"
        for a, b in itertools.product(rnd.recvs, (*rnd.sends, *held)):
            assert not overlap(a, b), "a message arrives over one that is in use"
        for red in rnd.reductions:
            assert red.received.nbytes == red.held.nbytes == red.count * itemsize
            for m in (red.received, red.held):
                assert m.offset % itemsize == 0


@pytest.mark.parametrize("algorithm", ENTRIES, ids=NAMES)
@settings(max_examples=10)
@given(topology=topologies(max_ranks=14), elements=st.integers(0, 40), itemsize=st.sampled_from((1, 8)), data=st.data())
def test_nothing_overlaps_or_leaves_its_region(algorithm, topology, elements, itemsize, data):
    if not able(algorithm, topology.size, topology.size):
        return
    root = data.draw(st.integers(0, topology.size - 1)) if algorithm.collective in ROOTED else 0
    schedule = make_schedule(algorithm.collective, algorithm.name, topology, root)
    counts = counts_of(schedule, elements)
    for rank in range(topology.size):
        plan = make_plan(schedule, rank, counts, itemsize)
        send, recv = room(schedule, rank, counts)
        check_plan(plan, {SEND: send * itemsize, RECV: recv * itemsize, SCRATCH: plan.scratch_bytes}, itemsize)


def test_an_allgather_without_reordering_copies_only_its_own_block():
    schedule = make_schedule("allgather", "bruck", Topology.flat(6))
    for rank in range(6):
        plan = make_plan(schedule, rank, 10, 8)
        assert [m.pieces for m in plan.load] == [((0, rank * 80, 80),)]
        assert plan.store == ()


def test_a_leaf_sends_from_the_send_buffer():
    schedule = make_schedule("gather", "binomial", Topology.flat(4))
    plan = make_plan(schedule, 3, 5, 8)
    assert (plan.load, plan.store, plan.scratch_bytes) == ((), (), 0)
    assert plan.rounds[0].sends == (Message(2, SEND, 0, 40),)


def test_a_ring_of_equal_blocks_needs_no_packing():
    schedule = make_schedule("allreduce", "ring", two_level(2, 3))
    for rank in range(6):
        plan = make_plan(schedule, rank, 7, 4)
        assert all(rnd.pack == rnd.unpack == rnd.local == () for rnd in plan.rounds)


def test_stages_are_aligned():
    schedule = make_schedule("allreduce", "rabenseifner", groups_of([3, 5, 4]))
    for rank in range(12):
        plan = make_plan(schedule, rank, np.diff(block_cuts(101, 12)), 4)
        staged = [
            red.received.offset for rnd in plan.rounds for red in rnd.reductions if red.received.region == SCRATCH
        ]
        assert staged
        assert all(at % 64 == 0 for at in staged)


def test_messages_without_bytes_are_left_out_but_a_barrier_keeps_its():
    empty = make_plan(make_schedule("allgather", "ring", Topology.flat(4)), 1, 0, 8)
    assert all(rnd.sends == rnd.recvs == () for rnd in empty.rounds)
    barrier = make_plan(make_schedule("barrier", "dissemination", Topology.flat(4)), 1, 0, 1)
    assert [len(rnd.sends) for rnd in barrier.rounds] == [1, 1]


@pytest.mark.parametrize("algorithm", ENTRIES, ids=NAMES)
@pytest.mark.parametrize("p", [8, 33])
def test_counts_beyond_memory_are_planned_in_little(algorithm, p):
    """64 GiB a vector, 4 GiB a block: plans hold offsets, not one index an element, and none of them wraps."""
    if not able(algorithm, p, p):
        return
    elements = 7 + (2**33 if algorithm.collective in WHOLE else 2**29)
    schedule = make_schedule(algorithm.collective, algorithm.name, groups_of([p - p // 3, p // 3]))
    counts = counts_of(schedule, elements)
    tracemalloc.start()
    try:
        plan = make_plan(schedule, p - 1, counts, 8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    send, recv = room(schedule, p - 1, counts)
    check_plan(plan, {SEND: send * 8, RECV: recv * 8, SCRATCH: plan.scratch_bytes}, 8)
    assert max((m.nbytes for rnd in plan.rounds for m in (*rnd.sends, *rnd.recvs)), default=0) <= LARGEST
    sent = sum(m.nbytes for rnd in plan.rounds for m in rnd.sends)
    assert sent > 2**31 or algorithm.collective in ("barrier", "bcast", "scatter")
