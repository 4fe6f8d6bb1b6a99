"""Programs: where slots live, that nothing overlaps, what waits for what, their forms, and counts beyond any memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import topologies
from test_algorithms import ENTRIES, NAMES, ROOTED, able

from topocomm import Topology
from topocomm.algorithms import make_schedule
from topocomm.collectives import PREFIXES
from topocomm.engines.walk import Loaded, walk
from topocomm.errors import ProgramError
from topocomm.plan.bind import bind
from topocomm.plan.cells import Numbering
from topocomm.plan.check import check
from topocomm.plan.program import (
    COPY,
    FENCE,
    LAND,
    LOOP,
    RECV,
    RECV_ROLE,
    REDUCE,
    SCRATCH_ROLE,
    SEND,
    SEND_ROLE,
    SENT,
    WAIT,
    Program,
)
from topocomm.schedule.blocks import block_cuts
from topocomm.topology import groups_of, two_level

WHOLE = ("allreduce", "reduce", "reduce_scatter", "reduce_scatter_block", "bcast")


def counts_of(schedule, elements):
    """Sizes of blocks: the vector cut evenly, or all blocks alike."""
    blocks = max(max(len(schedule.part(r).load), len(schedule.part(r).store)) for r in range(schedule.size))
    blocks //= schedule.pieces
    return np.diff(block_cuts(elements, blocks)) if schedule.collective in WHOLE else elements


class Watch:
    """A port that moves nothing, and refuses memory that another message under way uses."""

    def __init__(self):
        self.under_way, self.messages = {}, 0

    @staticmethod
    def span(data):
        at = data.__array_interface__["data"][0]
        return at, at + len(data)

    def begin(self, key, data):
        low, high = self.span(data)
        for (kind, *_), (a, b) in self.under_way.items():
            if "recv" in (kind, key[0]):
                assert high <= a or b <= low or low == high, "a message arrives over one that is under way"
        assert key not in self.under_way
        self.under_way[key] = low, high
        self.messages += 1

    def send(self, peer, number, data):
        self.begin(("send", peer, number), data)

    def expect(self, peer, number, data):
        assert data.flags.writeable or not len(data)
        self.begin(("recv", peer, number), data)

    def arrived(self, peer, number):
        self.under_way.pop(("recv", peer, number), None)
        return True

    def sent(self, peer, number):
        self.under_way.pop(("send", peer, number), None)
        return True

    def exchange(self, to, number, data, source, expected, into):
        return False

    def fence(self):
        return True


def watched(program, counts, itemsize, fused):
    """Run a program on memory of its own, its send buffer read-only; return the port."""
    loaded = Loaded(program, fused)
    sized = loaded.size(counts, itemsize)
    regions = tuple(np.zeros(n, np.uint8) for n in (*(int(cut[-1]) for cut in sized.cuts), sized.own_bytes))
    regions[SEND_ROLE].flags.writeable = False
    port = Watch()
    assert list(walk(sized, regions, port, lambda landed, held, before: None)) == []
    return port


@pytest.mark.parametrize("algorithm", ENTRIES, ids=NAMES)
@settings(max_examples=6)
@given(topology=topologies(max_ranks=14), elements=st.integers(0, 40), itemsize=st.sampled_from((1, 8)), data=st.data())
def test_nothing_overlaps_or_leaves_its_memory(algorithm, topology, elements, itemsize, data):
    if not able(algorithm, topology.size, topology.size):
        return
    root = data.draw(st.integers(0, topology.size - 1)) if algorithm.collective in ROOTED else 0
    schedule = make_schedule(algorithm.collective, algorithm.name, topology, root)
    counts = counts_of(schedule, elements)
    rank = data.draw(st.integers(0, topology.size - 1))
    program = bind(schedule, rank)
    check(program)
    for fused in (False, True):
        watched(program, counts, itemsize, fused)


@pytest.mark.parametrize("algorithm", ENTRIES, ids=NAMES)
def test_the_byte_form_says_the_same(algorithm):
    for p in (1, 8):
        schedule = make_schedule(algorithm.collective, algorithm.name, two_level(2, 4) if p == 8 else Topology.flat(1))
        for in_place in (False, True):
            program = bind(schedule, p - 1, in_place)
            again = Program.from_bytes(bytes(program))
            check(again)
            assert bytes(again) == bytes(program)
            assert str(again) == str(program)
            assert list(again.walk()) == list(program.walk())
            assert again.in_place is in_place


def test_bytes_that_are_no_program_are_refused():
    good = bytes(bind(make_schedule("allreduce", "rabenseifner", Topology.flat(4)), 1))
    for bad, reason in (
        (b"", "0 bytes, a header has 128"),
        (b"\0" * 128, "not a program of version"),
        (good[:-4], "do not hold"),
        (good + b"\0" * 4, "do not hold"),
    ):
        with pytest.raises(ProgramError, match=reason):
            Program.from_bytes(bad)


def changed(step=None, run=None, column=0, value=0):
    """A good program with one number changed."""
    program = Program.from_bytes(bytes(bind(make_schedule("allreduce", "rabenseifner", Topology.flat(4)), 1)))
    if step is not None:
        codes = program.steps[:, 0].tolist()
        program.steps[codes.index(step) if isinstance(step, int) else step[0], column] = value
    if run is not None:
        program.runs[run, column] = value
    return program


def endless():
    """A ring whose first loop goes on for ever, as far as 32 bits count."""
    program = Program.from_bytes(bytes(bind(make_schedule("allreduce", "ring", Topology.flat(16)), 1)))
    program.steps[program.steps[:, 0].tolist().index(LOOP), 3] = 2**31 - 1
    return program


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (changed(SEND, column=1, value=4), "message 0 of rank 4"),
        (changed(SEND, column=1, value=1), "message 0 of rank 1"),
        (changed(SEND, column=2, value=1), "message 0 is the next"),
        (changed(RECV, column=2, value=1), "message 0 is the next"),
        (changed(WAIT, column=2, value=9), "messages are under way"),
        (changed(WAIT, column=3, value=0), "messages are under way"),
        (changed(REDUCE, column=0, value=99), "code 99"),
        (changed(REDUCE, column=0, value=WAIT), "messages are under way"),
        (changed(FENCE, column=0, value=COPY), "does not end with a fence"),
        (changed(RECV, column=7, value=0), "it does not land"),
        (changed(RECV, column=4, value=99), "runs 99"),
        (changed(run=0, column=1, value=-1), "reaches outside its memory"),
        (changed(run=0, column=2, value=5), "reaches outside its memory"),
        (changed(run=0, column=0, value=3), "unknown role"),
        (changed(run=0, column=0, value=SEND_ROLE), "writes to the caller's send buffer"),
        (changed(COPY, column=0, value=LOOP), "a loop of"),
        (changed(WAIT, column=3, value=2**31 - 1), "messages, which cannot be loaded"),
        (endless(), "messages, which cannot be loaded"),
        (replace(changed(), nslots=1 << 40), "at most 67108864 can be loaded"),
    ],
)
def test_a_malformed_program_is_refused(program, reason):
    with pytest.raises(ProgramError, match=reason):
        check(program)


def test_an_allgather_without_reordering_copies_only_its_own_block():
    schedule = make_schedule("allgather", "bruck", Topology.flat(6))
    for rank in range(6):
        steps = [step for step in bind(schedule, rank).walk() if step.code == COPY and step.source is not None]
        assert [(step.runs, step.source) for step in steps] == [(((RECV_ROLE, rank, 1),), ((SEND_ROLE, 0, 1),))]
        assert all(step.source is None for step in bind(schedule, rank, in_place=True).walk() if step.code == COPY)


def test_a_leaf_sends_from_the_send_buffer():
    program = bind(make_schedule("gather", "binomial", Topology.flat(4)), 3)
    assert [(s.code, s.peer, s.message, s.runs) for s in program.walk()] == [
        (SEND, 2, 0, ((SEND_ROLE, 0, 1),)),
        (FENCE, 0, 0, ()),
    ]
    assert [len(slots) for slots in program.layout] == [1, 0, 0]


def test_a_ring_is_two_loops_and_needs_no_packing():
    for p in (8, 1000):
        program = bind(make_schedule("allreduce", "ring", Topology.flat(p)), 3)
        codes = program.steps[:, 0].tolist()
        assert codes == [COPY, LOOP, RECV, SEND, WAIT, REDUCE, WAIT, LOOP, RECV, SEND, WAIT, FENCE]
        assert program.steps[codes.index(LOOP), 3] == p - 1


def test_waits_are_as_late_as_may_be():
    """A leaf of a broadcast in segments waits for nothing; who passes segments on waits for the one it passes."""
    chain = make_schedule("bcast", "pipeline", Topology.flat(3))
    codes = [[(step.code, step.flags & SENT) for step in bind(chain, r, in_place=True).walk()] for r in range(3)]
    assert {code for code, _ in codes[0]} == {SEND, FENCE}
    assert {code for code, _ in codes[2]} == {RECV, FENCE}
    passing = [code for code, _ in codes[1]]
    assert (WAIT, SENT) not in codes[1]
    assert passing.count(WAIT) == passing.count(SEND) == passing.count(RECV)


def test_receives_are_posted_before_the_waits_of_the_round_before():
    """Rabenseifner's second message is expected before the first one is waited for."""
    codes = [step.code for step in bind(make_schedule("allreduce", "rabenseifner", Topology.flat(8)), 2).walk()]
    assert codes.index(WAIT) > [i for i, code in enumerate(codes) if code == RECV][1]


def test_what_is_combined_lands_and_what_has_a_place_does_not():
    program = bind(make_schedule("allreduce", "rabenseifner", groups_of([3, 5, 4])), 7)
    steps = list(program.walk())
    landed = {(s.peer, s.message) for s in steps if s.code == RECV and s.flags & LAND}
    combined = {(s.peer, s.message) for s in steps if s.code == REDUCE}
    unpacked = {(s.peer, s.message) for s in steps if s.code == COPY and s.source is None}
    assert combined
    assert landed == combined | unpacked
    assert all(role != SCRATCH_ROLE for s in steps if s.code == RECV and not s.flags & LAND for role, _, _ in s.runs)


def test_messages_without_bytes_are_left_out_but_a_barrier_keeps_its():
    empty = watched(bind(make_schedule("allgather", "ring", Topology.flat(4)), 1), 0, 8, True)
    assert empty.messages == 0
    barrier = watched(bind(make_schedule("barrier", "dissemination", Topology.flat(4)), 1), 0, 1, True)
    assert barrier.messages == 4


@pytest.mark.parametrize("algorithm", ENTRIES, ids=NAMES)
@pytest.mark.parametrize("p", [8, 33])
def test_counts_beyond_memory_are_sized_in_little(algorithm, p):
    """64 GiB a vector, 4 GiB a block: offsets, not one index an element, and none of them wraps."""
    if not able(algorithm, p, p):
        return
    elements = 7 + (2**33 if algorithm.collective in WHOLE else 2**29)
    schedule = make_schedule(algorithm.collective, algorithm.name, groups_of([p - p // 3, p // 3]))
    counts = counts_of(schedule, elements)
    loaded = Loaded(bind(schedule, p - 1))
    tracemalloc.start()
    try:
        sized = loaded.size(counts, 8)
        steps = sized.script[0]
        sent = sum(step[5] - step[4] for step in steps if step[0] == SEND)
        copies = [step[1] for step in steps if step[0] == COPY]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    assert all(move.put is None or len(move.put) < 2**12 for moves in copies for _, _, move in moves)
    assert sent > 2**31 or algorithm.collective in ("barrier", "bcast", "scatter", *PREFIXES)


def test_block_sizes_that_do_not_fit_are_refused():
    program = bind(make_schedule("reduce_scatter", "textbook_pairwise", Topology.flat(4)), 1)
    assert program.slot_bytes([1, 0, 2, 5], 8).tolist() == [8, 0, 16, 40]
    with pytest.raises(ProgramError, match="3 block sizes, needs 4"):
        program.slot_bytes([1, 2, 3], 8)


ARRIVALS = [("allreduce", "ring", (5, 5)), ("barrier", "dissemination", (3, 0)), ("alltoall", "scattered", (5, 0))]


@pytest.mark.parametrize(("collective", "name", "apart"), ARRIVALS)
@pytest.mark.parametrize("places", [range(6), [0, 1, 0, 1, 0, 1]])
def test_arrivals_are_what_a_walk_receives(collective, name, apart, places):
    """Loops counted as often as they turn; ``apart``: of ranks on nodes of their own."""
    topology = Topology(("node",), [[place] for place in places])
    for rank in range(6):
        program = bind(make_schedule(collective, name, topology), rank)
        received = [op for op in Numbering(program).operations() if op.code == RECV]
        landing = sum(bool(op.flags & LAND) for op in received)
        assert program.arrivals == (len(received) - landing, landing)
        assert program.arrivals == apart or places != range(6)
