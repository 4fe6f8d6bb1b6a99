"""Run under mpiexec: programs through engine ``c`` against engine ``local`` and the MPI library's own calls."""

import functools
import pickle
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from test_algorithms import ENTRIES, able
from test_local import root_of, topology_of

from topocomm.algorithms import make_schedule
from topocomm.collectives import COLLECTIVES, REDUCING
from topocomm.engines import c, combiners, local, puts
from topocomm.errors import BufferError, Error, ProgramError
from topocomm.plan.bind import bind
from topocomm.plan.program import (
    BEFORE,
    COPY,
    FENCE,
    LAND,
    LOOP,
    RECV,
    RECV_ROLE,
    REDUCE,
    SEND,
    SEND_ROLE,
    WAIT,
    Program,
)
from topocomm.schedule.blocks import block_cuts

WORLD = MPI.COMM_WORLD
RANK, SIZE = WORLD.rank, WORLD.size
WAY = sys.argv[1] if len(sys.argv) > 1 else "mpi"
"""``mpi``: all messages are MPI's; ``puts``: notified puts; ``faulty``: over a simulated network; ``shm``: shared
memory, large ones read by the receiver; ``pieces``: cut; ``mixed``: shared memory on a host, puts between hosts."""
PUTS = WAY in ("puts", "faulty")
NOTHING = np.empty(0, np.uint8)
COUNTS = ((1, "f8"), (SIZE + 1, "f4"), (0, "f8"), (1023, "f8"))


def values(rank, count, dtype):
    """Sums of these differ in their last bits when they are summed in another order."""
    return (1 / (1 + (rank * 1009 + np.arange(count) * 7) % 101)).astype(dtype)


def octets(array):
    return array.view(np.uint8).reshape(-1)


def small(rank, size, steps, runs, send, recv, scratch, pieces=1, nslots=None):
    """Write a program by hand."""
    slots = [np.array(x, np.int32) for x in (send, recv, scratch)]
    nslots = 1 + max((int(x.max()) for x in slots if len(x)), default=0) if nslots is None else nslots
    arrays = np.array(steps, np.int32).reshape(-1, 8), np.array(runs, np.int32).reshape(-1, 5)
    return Program(rank, size, *arrays, tuple(slots), nslots, pieces, np.arange(nslots, dtype=np.int32))


# -- programs written by hand --------------------------------------------------------------------------------------


def ring_allreduce(rank, size):
    """Blocks 0..p-1 stand in RECV; both halves are loops whose runs move."""
    left, right, n = (rank - 1) % size, (rank + 1) % size, size - 1
    whole, own = (SEND_ROLE, 0, size, 0, 0), (RECV_ROLE, 0, size, 0, 0)
    moving = [(RECV_ROLE, (rank - k) % size, 1, -1, size) for k in (0, 1)]
    again = [(RECV_ROLE, (rank + 1 - k) % size, 1, -1, size) for k in (0, 1)]
    steps = [(COPY, 0, 0, 0, 0, 1, 1, 0)]
    if n:
        steps += [(LOOP, 0, 0, n, 0, 0, 4, 0),
                  (RECV, left, 0, 0, 3, 1, 0, LAND), (SEND, right, 0, 0, 2, 1, 0, 0),
                  (WAIT, left, 0, 1, 0, 0, 0, 0), (REDUCE, left, 0, 0, 3, 1, 0, BEFORE),
                  (FENCE, 0, 0, 0, 0, 0, 0, 0),
                  (LOOP, 0, 0, n, 0, 0, 3, 0),
                  (RECV, left, n, 0, 5, 1, 0, 0), (SEND, right, n, 0, 4, 1, 0, 0),
                  (WAIT, left, n, 1, 0, 0, 0, 0)]  # fmt: skip
    steps.append((FENCE, 0, 0, 0, 0, 0, 0, 0))
    blocks = range(size)
    return small(rank, size, steps, [own, whole, *moving, *again], blocks, blocks, ())


def ring_allgather_pipelined(rank, size, times):
    """Messages of a loop that land and are taken one repetition later: two must be kept apart. p = 2."""
    other = 1 - rank
    runs = [(SEND_ROLE, 0, 1, 1, times + 1), (RECV_ROLE, 0, 1, 1, times + 1), (SEND_ROLE, times, 1, 0, 0),
            (RECV_ROLE, 0, 1, 0, 0), (RECV_ROLE, times, 1, 0, 0)]  # fmt: skip
    steps = [(RECV, other, 0, 0, 3, 1, 0, LAND), (SEND, other, 0, 0, 0, 1, 0, 0),
             (LOOP, 0, 0, times, 0, 0, 4, 0),
             (RECV, other, 1, 0, 0, 1, 0, LAND), (SEND, other, 1, 0, 5, 1, 0, 0),
             (WAIT, other, 0, 2, 0, 0, 0, 0), (COPY, other, 0, 0, 1, 1, -1, 0),
             (COPY, other, times, 0, 4, 1, -1, 0), (FENCE, 0, 0, 0, 0, 0, 0, 0)]  # fmt: skip
    runs.append((SEND_ROLE, 1, 1, 1, times + 1))
    blocks = range(times + 1)
    return small(rank, size, steps, runs, blocks, blocks, ())


def scattered(rank, size):
    """Messages of several runs both ways, received without LAND: packed and unpacked by the engine."""
    n = 6
    runs = [(SEND_ROLE, 0, 2, 0, 0), (SEND_ROLE, 4, 1, 0, 0), (RECV_ROLE, 1, 1, 0, 0), (RECV_ROLE, 3, 2, 0, 0)]
    steps = []
    peers = [p for p in range(size) if p != rank]
    for at, peer in enumerate(peers):
        where = n * at
        runs += [(RECV_ROLE, where + 1, 1, 0, 0), (RECV_ROLE, where + 3, 2, 0, 0)]
        steps.append((RECV, peer, 0, 0, 4 + 2 * at, 2, 0, 0))
    steps += [(SEND, peer, 0, 0, 0, 2, 0, 0) for peer in peers]
    steps += [(WAIT, peer, 0, 1, 0, 0, 0, 0) for peer in peers] + [(FENCE, 0, 0, 0, 0, 0, 0, 0)]
    room = max(n * len(peers), n)
    return small(rank, size, steps, runs, range(n), np.arange(room) % n, ())


def check_ring(engine):
    loaded = engine.load(ring_allreduce(RANK, SIZE))
    for count in (0, 1, 3, 1000):
        sized = loaded.size(count, 8)
        mine = values(RANK, SIZE * count, "f8")
        out, want = np.full(SIZE * count, -1.0), np.empty(SIZE * count)
        for _ in range(3):
            sized.run(octets(mine), octets(out), MPI.SUM, MPI.DOUBLE)
            WORLD.Allreduce(mine, want)
            np.testing.assert_allclose(out, want, rtol=1e-14)
            mine += 1
    uneven = loaded.size([5 * (i % 3) for i in range(SIZE)], 4)
    n = sum(5 * (i % 3) for i in range(SIZE))
    mine, out, want = np.arange(n, dtype="i4") + RANK, np.full(n, -1, "i4"), np.empty(n, "i4")
    uneven.run(octets(mine), octets(out), MPI.MAX, MPI.INT32_T)
    WORLD.Allreduce(mine, want, MPI.MAX)
    np.testing.assert_array_equal(out, want)


def check_landings_in_turn(engine):
    if SIZE != 2:
        return
    for times in (1, 2, 7):
        sized = engine.load(ring_allgather_pipelined(RANK, SIZE, times)).size(3, 8)
        mine = np.arange(3 * (times + 1)) + 1000 * RANK
        out = np.full_like(mine, -1)
        sized.run(octets(mine), octets(out))
        np.testing.assert_array_equal(out, np.arange(3 * (times + 1)) + 1000 * (1 - RANK))


def check_scattered(engine):
    """Blocks 0, 1 and 4 go where the peer has blocks 1, 3 and 4 of its part for this rank; one size may be 0."""
    for counts in ([2, 2, 2, 2, 2, 2], [3, 0, 1, 3, 1, 2], [0, 0, 4, 0, 0, 1]):
        cuts = block_cuts_of(counts)
        sized = engine.load(scattered(RANK, SIZE)).size(counts, 4)
        mine = np.arange(cuts[-1], dtype="i4") + 100 * RANK
        out = np.full(cuts[-1] * max(SIZE - 1, 1), -1, "i4")
        sized.run(octets(mine), octets(out))
        for at, peer in enumerate(p for p in range(SIZE) if p != RANK):
            sent = np.split(np.arange(cuts[-1], dtype="i4") + 100 * peer, cuts[1:-1])
            want = np.full(cuts[-1], -1, "i4")
            want[cuts[1] : cuts[2]] = np.concatenate([sent[0], sent[1]])[: counts[1]]
            want[cuts[3] : cuts[5]] = np.concatenate([sent[0], sent[1], sent[4]])[counts[1] :]
            np.testing.assert_array_equal(out[cuts[-1] * at : cuts[-1] * (at + 1)], want)


def block_cuts_of(counts):
    return [0, *np.cumsum(counts).tolist()]


# -- every algorithm -----------------------------------------------------------------------------------------------


def inputs_of(schedule, count, dtype):
    whole = schedule.collective in REDUCING or schedule.collective == "bcast"
    loads = [len(schedule.part(r).load) // schedule.pieces for r in range(schedule.size)]
    return [values(r, 0 if n == 0 else count if whole else n * count, dtype) for r, n in enumerate(loads)]


def counts_of(schedule, inputs):
    nblocks = max((len(schedule.part(r).load) // schedule.pieces for r in range(schedule.size)), default=0)
    length = max(len(a) for a in inputs)
    facts = COLLECTIVES[schedule.collective]
    if facts.prefix:
        return length
    if facts.blocks and not facts.reduces:
        return length // max(nblocks, 1)
    return np.diff(block_cuts(length, nblocks))


@functools.cache
def schedules():
    """Every algorithm that runs on these ranks, and its schedule."""
    usable = [a for a in ENTRIES if SIZE in able(a, SIZE, SIZE)]
    return [(a, make_schedule(a.collective, a.name, topology_of(SIZE), root_of(a, SIZE))) for a in usable]


@functools.cache
def results():
    """Of every case that is run with data, this rank's; computed by the ranks in turn, for all."""
    cases = [(at, *case) for at, (a, _) in enumerate(schedules()) if a.collective != "barrier" for case in COUNTS]
    found = []
    for at, count, dtype in cases[RANK::SIZE]:
        schedule = schedules()[at][1]
        found.append(local.run(schedule, inputs_of(schedule, count, dtype)))
    mine = WORLD.alltoall([[of_all[r] for of_all in found] for r in range(SIZE)])
    return {case: mine[n % SIZE][n // SIZE] for n, case in enumerate(cases)}


def check_every_algorithm(engine):
    ran = 0
    for at, (algorithm, schedule) in enumerate(schedules()):
        loaded = engine.load(bind(schedule, RANK))
        for count, dtype in COUNTS:
            if algorithm.collective == "barrier":
                loaded.size(0, 1).run(NOTHING, NOTHING)
                ran += 1
                continue
            inputs = inputs_of(schedule, count, dtype)
            want = results()[at, count, dtype]
            sized = loaded.size(counts_of(schedule, inputs), np.dtype(dtype).itemsize)
            out = np.full(len(want) + 16, -7, dtype)
            mine = inputs[RANK].copy()
            mine.flags.writeable = False
            datatype = MPI.DOUBLE if dtype == "f8" else MPI.FLOAT
            sized.run(octets(mine), octets(out[: len(want)]), MPI.SUM, datatype)
            name = f"{algorithm.collective} {algorithm.name} p={SIZE} count={count}"
            assert out[: len(want)].tobytes() == want.tobytes(), name
            assert (out[len(want) :] == -7).all(), name
            assert mine.tobytes() == inputs[RANK].tobytes(), name
            ran += 1
    assert ran > 100


def check_split_messages(_engine):
    """The same with messages split at 100 bytes, which is how one of 1 GiB and more goes."""
    engine = engine_of(largest=100)
    check_ring(engine)
    check_every_algorithm(engine)


# -- reductions ----------------------------------------------------------------------------------------------------


def check_kernels_give_the_librarys_bits(_engine):
    """Every operation and type that the library has, in both orders, through whoever combines."""
    engine = engine_of()  # of pairs of ranks: the last of an odd number makes no call
    other = RANK ^ 1
    kernels = 0
    for name in [*combiners._SIGNED, *combiners._UNSIGNED, *combiners._LOGICAL, *combiners._OTHERS]:
        datatype = getattr(MPI, name)
        if datatype == MPI.DATATYPE_NULL:
            continue
        element = combiners._element(datatype)
        assert element is not None, name
        mine, theirs = (combiners._operands(element[1])[r] for r in (RANK & 1, other & 1))
        for op in (getattr(MPI, o) for o in combiners._OPERATIONS):
            outs = {True: combiners._by_library(op, datatype, theirs, mine)}
            outs[False] = combiners._by_library(op, datatype, mine, theirs)
            if outs[True] is None or other >= SIZE:
                continue
            kernels += combiners.combiner(op, datatype).by == 0
            for before, expected in outs.items():
                out = combiners._bytes(mine).copy()
                program = exchange(RANK, SIZE, other, BEFORE if before else 0)
                sized = engine.load(program).size(len(mine), mine.itemsize)
                sized.run(combiners._bytes(mine), out, op, datatype)
                assert bits(out.view(expected.dtype)) == bits(expected), (name, op, before)
    assert other >= SIZE or kernels > 200


def bits(array):
    """The bits of an array without the gaps of its elements."""
    if array.dtype.names:
        return [bits(np.ascontiguousarray(array[name])) for name in array.dtype.names]
    used = 10 if array.dtype == np.longdouble and array.itemsize == 16 else array.itemsize
    return array.view(np.uint8).reshape(len(array), -1)[:, :used].tobytes()


def exchange(rank, size, other, flags):
    """Give a block to ``other`` and combine the one that comes."""
    steps = [(COPY, 0, 0, 0, 0, 1, 1, 0), (RECV, other, 0, 0, 0, 1, 0, LAND), (SEND, other, 0, 0, 1, 1, 0, 0),
             (WAIT, other, 0, 1, 0, 0, 0, 0), (REDUCE, other, 0, 0, 0, 1, 0, flags),
             (FENCE, 0, 0, 0, 0, 0, 0, 0)]  # fmt: skip
    return small(rank, size, steps, [(RECV_ROLE, 0, 1, 0, 0), (SEND_ROLE, 0, 1, 0, 0)], [0], [0], ())


def check_operations_of_the_user(_engine):
    """Combined in Python between the steps, in the order that the schedule says."""
    engine = engine_of()
    calls = []

    def affine(a, b, _datatype):
        left, right = np.frombuffer(a, "i8"), np.frombuffer(b, "i8")
        calls.append(len(left))
        right[:] = (3 * left + right) % 1000003

    op = MPI.Op.Create(affine, commute=False)
    if SIZE > 1:
        other = RANK ^ 1
        if other < SIZE:
            for flags in (0, BEFORE):
                sized = engine.load(exchange(RANK, SIZE, other, flags)).size(50, 8)
                mine, theirs = (np.arange(50) * 17 + r for r in (RANK, other))
                out = np.zeros(50, "i8")
                sized.run(octets(mine), octets(out), op, MPI.INT64_T)
                left, right = (theirs, mine) if flags else (mine, theirs)
                np.testing.assert_array_equal(out, (3 * left + right) % 1000003)
            assert calls == [50, 50]
    op.Free()


# -- several under way ----------------------------------------------------------------------------------------------


def check_several_under_way(engine):
    """Runs of one program and of others, waited for in another order on every rank."""
    ring = engine.load(ring_allreduce(RANK, SIZE))
    gather = engine.load(bind(make_schedule("allgather", "ring", topology_of(SIZE)), RANK))
    double = MPI.Op.Create(lambda a, b, _: np.add(np.frombuffer(a, "f8"), np.frombuffer(b, "f8"),
                                                  out=np.frombuffer(b, "f8")), commute=True)  # fmt: skip
    runs, outs, want = [], [], []
    for i in range(6):
        if i % 3 == 2:
            mine = np.full(100, 10.0 * i + RANK)
            sized, out = gather.size(100, 8), np.zeros(100 * SIZE)
            runs.append((sized.start(octets(mine), octets(out)), mine))
            want.append(np.repeat(10.0 * i + np.arange(SIZE), 100))
        else:
            mine, out = np.full(20000 * SIZE, i + RANK + 1.0), np.zeros(20000 * SIZE)
            sized = ring.size(20000, 8)
            runs.append((sized.start(octets(mine), octets(out), (MPI.SUM, double)[i % 2], MPI.DOUBLE), mine))
            want.append(np.full(20000 * SIZE, SIZE * (i + 1.0) + SIZE * (SIZE - 1) / 2))
        outs.append(out)
    order = np.random.default_rng(RANK).permutation(6)
    for k, i in enumerate(order):
        run = runs[i][0]
        if k % 2:
            while not run.test():
                time.sleep(0)
        run.wait()
        np.testing.assert_array_equal(outs[i], want[i])
    double.Free()


def check_more_under_way_than_tags(_engine):
    """A start returns at once when all tags are in use. Members in another order, as a carrier has them."""
    turned = WORLD.Split(0, -RANK)
    engine = engine_of(turned, ranks=[SIZE - 1 - r for r in range(SIZE)], first_tag=100, tags=3)
    assert engine.rank == turned.rank
    sized = engine.load(ring_allreduce(turned.rank, SIZE)).size(5, 8)
    outs, runs = np.zeros((10, 5 * SIZE)), []
    for i, out in enumerate(outs):
        mine = np.full(5 * SIZE, 1.0 + i)
        runs.append((sized.start(octets(mine), octets(out), MPI.SUM, MPI.DOUBLE), mine))
    for i, (run, _) in enumerate(runs):
        run.wait()
        assert (outs[i] == SIZE * (1.0 + i)).all()


def check_a_late_rank(engine):
    """A rank that comes a quarter of a second late finds the others where they were, having slept."""
    loaded = engine.load(ring_allreduce(RANK, SIZE))
    sized, out = loaded.size(1, 8), np.zeros(SIZE)
    if RANK == SIZE - 1:
        time.sleep(0.25)
    before = time.process_time()
    sized.run(octets(np.ones(SIZE)), octets(out), MPI.SUM, MPI.DOUBLE)
    assert (out == SIZE).all()
    print(f"# rank {RANK} used {time.process_time() - before:.3f} s of its processor", flush=True)


def check_mpi_is_driven(engine):
    """A large Isend before the call that its receiver takes before it: MPI's messages go on while we wait."""
    if SIZE < 2:
        return
    big, barrier = np.full(1 << 24, RANK, np.uint8), engine.load(ring_allreduce(RANK, SIZE)).size(1, 8)
    out = np.zeros(SIZE)
    request = WORLD.Isend(big, 1, 5) if RANK == 0 else MPI.REQUEST_NULL
    if RANK == 1:
        WORLD.Recv(big, 0, 5)
    barrier.run(octets(np.ones(SIZE)), octets(out), MPI.SUM, MPI.DOUBLE)
    request.Wait()
    assert (out == SIZE).all()


# -- notified puts -------------------------------------------------------------------------------------------------


def check_messages_are_counted(engine):
    """A call puts the messages of its program and nothing else: no question before, no answer after."""
    if not PUTS or SIZE < 2:
        return
    program = ring_allreduce(RANK, SIZE)
    sized, mine, out = engine.load(program).size(3, 8), np.ones(3 * SIZE), np.zeros(3 * SIZE)
    sized.run(octets(mine), octets(out), MPI.SUM, MPI.DOUBLE)
    before, calls = puts.endpoint().counters(), 20
    for _ in range(calls):
        sized.run(octets(mine), octets(out), MPI.SUM, MPI.DOUBLE)
    after = puts.endpoint().counters()
    assert {engine.transport((RANK + step) % SIZE) for step in (1, -1)} == {"ofi"}
    assert after.messages - before.messages == calls * 2 * (SIZE - 1)
    assert after.parts - before.parts == after.messages - before.messages
    assert after.openings == before.openings
    assert after.credits - before.credits <= calls * 2 * (SIZE - 1) / 12
    assert SIZE > 2 or after.credits == before.credits  # messages go both ways, and carry them
    assert "ofi" in engine.carried(lambda _: None)


def check_long_messages_are_cut(engine):
    """Longer than a lane, in one direction: as many parts as needed, and credits for those that lie in the lane."""
    if SIZE < 2:
        return
    gather = engine.load(bind(make_schedule("bcast", "textbook_binomial", topology_of(SIZE)), RANK))
    count = 300_001
    for step in range(3):
        data = (np.arange(count) * 7 + step) % 251 if RANK == 0 else np.zeros(count, int)
        mine, out = data.astype(np.uint8), np.zeros(count, np.uint8)
        gather.size(count, 1).run(mine if RANK == 0 else NOTHING, out)
        assert (out == (np.arange(count) * 7 + step) % 251).all()


def check_links_serve_one_communicator_after_another(_engine):
    """Memory is bounded: a communicator that is gone leaves its links to the next."""
    if not PUTS:
        return
    before = puts.endpoint().counters().links
    for _ in range(5):
        comm = WORLD.Dup()
        engine = c.Engine(comm, first_tag=1)
        engine.put(puts.endpoint(), 0)
        check_ring(engine)
        del engine
        comm.Free()
    assert puts.endpoint().counters().links - before <= 2


# -- refusals ------------------------------------------------------------------------------------------------------


def raises(kind, text, call):
    with pytest.raises(kind, match=re.escape(text)):
        call()


def check_refusals(engine):
    ring = ring_allreduce(RANK, SIZE)
    sized = engine.load(ring).size(4, 8)
    short = np.zeros(32 * SIZE - 1, np.uint8)
    raises(BufferError, f"needs {32 * SIZE}", lambda: sized.run(short, short))
    raises(ProgramError, "block sizes", lambda: engine.load(ring).size([1] * (SIZE + 1), 8))
    raises(ProgramError, "block sizes", lambda: engine.load(ring).size(-1, 8))
    raises(ProgramError, "block sizes", lambda: engine.load(ring).size(1 << 60, 8))
    raises(ProgramError, "a program of rank", lambda: engine.load(ring_allreduce(SIZE, SIZE + 1)))
    bad = small(RANK, SIZE, [(SEND, SIZE, 0, 0, 0, 0, 0, 0), (FENCE,) + (0,) * 7], [], [0], [0], ())
    raises(ProgramError, f"message 0 of rank {SIZE}", lambda: engine.load(bad))


def check_other_lengths(_engine):
    """A message shorter than expected is named with both lengths. On a communicator of its own: it is useless after."""
    if SIZE < 2:
        return
    engine = engine_of()
    if RANK > 1:
        return
    sized = engine.load(exchange(RANK, SIZE, 1 - RANK, 0)).size(10 - RANK, 8)
    mine, out = np.zeros(10), np.zeros(10)
    if RANK == 0:
        text = "rank 0: a message from rank 1 has 72 bytes, needs 80"
        raises(Error, text, lambda: sized.run(octets(mine), octets(out), MPI.SUM, MPI.DOUBLE))
    else:
        longer = "more than the 72 bytes needed" if engine.transport(0) == "mpi" else "80 bytes, needs 72"
        with pytest.raises(MPI.Exception, match=f"rank 1: a message from rank 0 has {longer}") as raised:
            sized.run(octets(mine), octets(out), MPI.SUM, MPI.DOUBLE)
        assert isinstance(raised.value, Error)
        assert raised.value.Get_error_class() == MPI.ERR_TRUNCATE
        assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def check_memory_is_given_back(engine):
    """Scratch beyond 64 KiB is lent: many programs with large landings need one piece of memory together."""
    out = np.zeros(100000 * SIZE)
    for _ in range(20):
        sized = engine.load(ring_allreduce(RANK, SIZE)).size(100000, 8)
        sized.run(octets(np.ones(100000 * SIZE)), octets(out), MPI.SUM, MPI.DOUBLE)
        assert (out == SIZE).all()
        assert SIZE == 1 or 800000 <= sized.memory_bytes < 900000


def engine_of(within=WORLD, **settings):
    """An engine whose messages go over what this launch tries; ``within`` has its members in their order."""
    engine = c.Engine(WORLD.Dup(), **{"first_tag": 1, **settings})
    if WAY in ("shm", "pieces"):
        assert engine.share(within, reads=WAY == "shm") == SIZE - 1
        assert all(engine.transport(r) == "shm" for r in range(SIZE) if r != engine.rank)
    elif WAY == "mixed":
        assert 0 < engine.share(within) < SIZE - 1
        engine.put(puts.endpoint(), 0)
    if WAY == "puts":
        engine.put(puts.endpoint(), 0)
    elif WAY == "faulty":
        engine.put(puts.endpoint(puts.Faults(seed=RANK, delay_us=20), 1 << 20), 0)
    return engine


if __name__ == "__main__":
    shared = engine_of()
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check(shared)
            WORLD.Barrier()
            if RANK == 0:
                print("ok", name, flush=True)
