"""Every algorithm with real data, all ranks in one process: types, counts, orders, in place."""

import numpy as np
import pytest
from mutation import WORD, append, expected, words
from test_algorithms import ENTRIES, NAMES, ROOTED, able, named

from topocomm import BufferError, ScheduleError, Topology
from topocomm.algorithms import make_schedule
from topocomm.collectives import PREFIXES, REDUCING
from topocomm.engines import local
from topocomm.engines.walk import Loaded, walk
from topocomm.plan.bind import bind
from topocomm.schedule import RankSchedule, Recv, Round, Schedule
from topocomm.schedule.blocks import block_cuts
from topocomm.topology import random_places, reorder_ranks

DTYPES = ("i1", "u2", "i4", "u8", "f4", "f8", "c16", "S3")
NUMBERS = DTYPES[:-1]
MATRIX = np.dtype([("m", np.int64, (2, 2))])
every_algorithm = pytest.mark.parametrize("algorithm", [a for a in ENTRIES if a.collective != "barrier"],
                                          ids=[n for n in NAMES if not n.startswith("barrier")])  # fmt: skip


def counts_for(p):
    return (0, 1, 2, p - 1, p, p + 1, 127, 4096)


def values(rank, count, dtype):
    """Data that differ by rank and by position."""
    numbers = (rank * 1009 + np.arange(count) * 7 + 1) % 101
    return numbers.astype(dtype)


def data_for(schedule, count, dtype):
    """Inputs of ``count`` elements: of the vector for a reduction or broadcast, else of a block."""
    whole = schedule.collective in REDUCING or schedule.collective == "bcast"
    loads = [len(schedule.part(r).load) // schedule.pieces for r in range(schedule.size)]
    return [values(r, 0 if n == 0 else count if whole else n * count, dtype) for r, n in enumerate(loads)]


def meaning(schedule, data, op=np.add):
    if not schedule.collective.startswith("reduce_scatter"):
        return expected(schedule, data, op)
    total = data[0]
    for d in data[1:]:
        total = op(total, d)
    return np.split(total, block_cuts(len(total), schedule.size)[1:-1])


def check(schedule, data, op=np.add):
    before = [d.copy() for d in data]
    for d in data:
        d.flags.writeable = False
    found = local.run(schedule, data, op)
    for r, (have, want) in enumerate(zip(found, meaning(schedule, data, op), strict=True)):
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want, err_msg=f"rank {r} of {schedule.size}")
    for d, b in zip(data, before, strict=True):
        np.testing.assert_array_equal(d, b)


def topology_of(p):
    return (Topology.flat(p), random_places(p, 3), reorder_ranks(random_places(p, 4), "sorted"))[p % 3]


def root_of(algorithm, p):
    return p // 2 if algorithm.collective in ROOTED else 0


@every_algorithm
def test_types_and_counts_up_to_17_ranks(algorithm):
    """Every count at every p over the entries of a collective; types in turn."""
    dtypes = NUMBERS if algorithm.collective in REDUCING else DTYPES
    shift = [a.name for a in ENTRIES if a.collective == algorithm.collective].index(algorithm.name)
    for p in able(algorithm, 1, 17):
        schedule = make_schedule(algorithm.collective, algorithm.name, topology_of(p), root_of(algorithm, p))
        for i in range(3):
            count = counts_for(p)[(p + shift + 3 * i) % 8]
            check(schedule, data_for(schedule, count, dtypes[(p // 2 + i) % len(dtypes)]))


@pytest.mark.parametrize("algorithm", [a for a in ENTRIES if "exchange" in a.ways or "direct" in a.ways], ids=named)
def test_ways_of_reordering(algorithm):
    for way in algorithm.ways[1:]:
        for p in (2, 5, 8, 13):
            topology = reorder_ranks(random_places(p, 6), "random:1")
            schedule = make_schedule(algorithm.collective, f"{algorithm.name}:{way}", topology, root_of(algorithm, p))
            check(schedule, data_for(schedule, 3, "i4"))
            check(schedule, data_for(schedule, 2 * p + 1, "f8"))


def matrices(rank, count):
    out = np.empty(count, MATRIX)
    out["m"] = (np.arange(4).reshape(2, 2) + values(rank, count, "i8")[:, None, None]) % 97
    return out


def product(left, right):
    out = np.empty(left.shape, MATRIX)
    out["m"] = left["m"] @ right["m"] % 97
    return out


@pytest.mark.parametrize("algorithm", [a for a in ENTRIES if a.in_order], ids=named)
def test_operations_that_are_not_commutative(algorithm):
    assert algorithm.collective in REDUCING
    for p in range(1, 18):
        topology = topology_of(p)
        if algorithm.name == "recursive_doubling":
            topology = reorder_ranks(topology, "sorted")
        root = root_of(algorithm, p)
        schedule = make_schedule(algorithm.collective, algorithm.name, topology, root, ordered=True)
        for count in (1, p + 1):
            check(schedule, [words(values(r, count, "u8")) for r in range(p)], append)
            check(schedule, [matrices(r, count) for r in range(p)], product)


def test_the_operations_that_tell_orders_apart_do():
    a, b, c = (words(np.array([x], "u8")) for x in (1, 2, 3))
    assert append(a, b) != append(b, a)
    assert append(append(a, b), c) == append(a, append(b, c))
    assert a.dtype == WORD
    x, y = matrices(1, 1), matrices(2, 1)
    assert (product(x, y) != product(y, x)).all()


IN_PLACE = (
    *PREFIXES,
    "allreduce",
    "allgather",
    "alltoall",
    "reduce_scatter",
    "reduce_scatter_block",
    "reduce",
    "gather",
)


@pytest.mark.parametrize("algorithm", [a for a in ENTRIES if a.collective in IN_PLACE], ids=named)
def test_in_place(algorithm):
    """The input stands in the receive buffer; canaries stand around it."""
    for p in able(algorithm, 1, 13):
        schedule = make_schedule(algorithm.collective, algorithm.name, topology_of(p), root_of(algorithm, p))
        for count in (0, 1, 5):
            check_in_place(schedule, data_for(schedule, count * (p if p % 2 else 1), "i4"))


def check_in_place(schedule, data):
    p, wanted = schedule.size, meaning(schedule, data)
    counts = local._counts(schedule, data)
    mail, programs, buffers = local._Mail(), [], []
    for r in range(p):
        here = r == schedule.root or schedule.collective not in ("reduce", "gather")
        need = max(len(wanted[r]), len(data[r])) if here else len(wanted[r])
        guarded = np.full(need + 32, -99, "i4")
        room = guarded[16 : 16 + need]
        own = (
            slice(r * len(data[r]), (r + 1) * len(data[r]))
            if schedule.collective in ("allgather", "gather")
            else slice(None)
        )
        if here:
            room[own][: len(data[r])] = data[r]
        send = room[own] if here else data[r]
        loaded = Loaded(bind(schedule, r, here))
        sized = loaded.size(counts, 4)
        regions = (np.ascontiguousarray(send).view(np.uint8) if not here else send.view(np.uint8), room.view(np.uint8),
                   np.empty(sized.scratch_bytes, np.uint8), np.empty(sized.own_bytes, np.uint8))  # fmt: skip
        combine = local._combine(np.dtype("i4"), np.add)
        programs.append(walk(sized, regions, local._Port(mail, r), combine))
        buffers.append(guarded)
    local._run_all(programs, mail, schedule)
    for r, guarded in enumerate(buffers):
        np.testing.assert_array_equal(guarded[16 : 16 + len(wanted[r])], wanted[r], err_msg=f"rank {r} of {p}")
        assert (guarded[:16] == -99).all()
        assert (guarded[-16:] == -99).all()


def test_inputs_that_do_not_fit_are_refused():
    ring = make_schedule("allgather", "ring", Topology.flat(3))
    one = np.zeros(1)
    for inputs, reason in (
        ([one, one], "2 inputs for 3 ranks"),
        ([one, one, np.zeros(2)], r"one length, found \[1, 2\]"),
    ):
        with pytest.raises(BufferError, match=reason):
            local.run(ring, inputs)
    with pytest.raises(BufferError, match="needs a multiple of 3 elements, found 4"):
        local.run(make_schedule("alltoall", "pairwise", Topology.flat(3)), [np.zeros(4)] * 3)
    with pytest.raises(BufferError, match="rank 1 has 1 input elements, but takes no input"):
        local.run(make_schedule("bcast", "binomial", Topology.flat(2)), [one, one])


def test_ranks_that_wait_for_ever_are_reported():
    def part(r):
        return RankSchedule(range(1), (Round((), (Recv(1 - r, range(1)),)),), range(1))

    schedule = Schedule(2, 1, part, collective="allreduce", algorithm="stuck")
    with pytest.raises(ScheduleError, match=r"allreduce stuck: ranks \[0, 1\] wait for ever"):
        local.run(schedule, [np.zeros(1)] * 2)
