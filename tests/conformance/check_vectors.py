"""Calls with blocks of unequal size: skewed, empty, with gaps, of derived types; the library is the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from harness import check, communicators, raised, topologies
from mpi4py import MPI

import topocomm
from topocomm.algorithms import make_schedule
from topocomm.algorithms.table import TABLE
from topocomm.errors import AlgorithmError, BufferError, Error

CANARY = 0xA5


def shapes(p: int, seed: int) -> Iterator[list[int]]:
    """Counts of every rank: skewed, with zeros, a power law, equal, none, random."""
    rng = np.random.default_rng(seed)
    yield [50 if r == p // 2 else 50 // p for r in range(p)]
    yield [7 * (r % 2) for r in range(p)]
    yield [64 >> min(r, 6) for r in range(p)]
    yield [5] * p
    yield [0] * p
    yield [0] * (p - 1) + [9]
    yield rng.integers(0, 40, p).tolist()


def able(comm: topocomm.Comm) -> Iterator[str]:
    """The allgather algorithms that run on these ranks."""
    for name in TABLE["allgather"]:
        try:
            make_schedule("allgather", name, comm.machine_topology)
        except AlgorithmError:
            continue
        yield name


def placed(counts: list[int], gap: int, backwards: bool) -> list[int]:
    """Displacements of blocks with gaps, in the order of ranks or against it."""
    order = range(len(counts))[::-1] if backwards else range(len(counts))
    displs, at = [0] * len(counts), gap
    for r in order:
        displs[r] = at
        at += counts[r] + gap
    return displs


def both(plain: MPI.Intracomm, call: Callable[[Any, Any], object], ours: topocomm.Comm, room: int) -> None:
    """A call on memory full of canaries, by the library and by us: every byte must be the same."""
    wanted, got = (np.full(room, CANARY, np.uint8) for _ in range(2))
    call(plain, wanted)
    call(ours, got)
    assert (got == wanted).all(), np.flatnonzero(got != wanted)[:9]


@check()
def allgatherv_agrees_with_the_library(world: MPI.Intracomm) -> None:
    """Over communicators, topologies, algorithms, counts, gaps, orders, in place and forms."""
    for name, plain in communicators(world):
        p, rank = plain.Get_size(), plain.Get_rank()
        for topology in topologies(p).values() if name == "world" else list(topologies(p).values())[2:3]:
            comm = topocomm.Comm(plain, topology=topology)
            names = [*able(comm), None] if name == "world" else ["ring", None]
            for turn, (algorithm, counts) in enumerate((a, c) for a in names for c in shapes(p, 7)):
                x = np.arange(counts[rank], dtype="d") + 100 * rank
                gap, backwards = turn % 3, turn % 2 == 1
                displs = placed(counts, gap, backwards)
                room = 8 * (sum(counts) + (p + 1) * gap)

                def call(
                    c: Any, memory: Any, x: Any = x, n: Any = counts, d: Any = displs, a: Any = algorithm, t: int = turn
                ) -> None:
                    recv = memory.view("d")
                    forms = [recv, n, d, MPI.DOUBLE], [recv, (n, d)], [recv, (n, d), "d"], [memory, n, d, MPI.DOUBLE]
                    if t % 5 == 4:
                        recv[d[rank] : d[rank] + n[rank]] = x
                    send = MPI.IN_PLACE if t % 5 == 4 else [x, MPI.DOUBLE] if t % 2 else x
                    if isinstance(c, topocomm.Comm):
                        c.Allgatherv(send, forms[t % 4], algorithm=a)
                    else:
                        c.Allgatherv(send, forms[t % 4])

                both(plain, call, comm, room)


@check()
def allgatherv_follows_derived_types(world: MPI.Intracomm) -> None:
    """On one rank alone, whose bytes are those of plain elements elsewhere; Open MPI's own waits for ever there."""
    p, rank = world.size, world.rank
    comm = topocomm.Comm(world, topology=topologies(p)["cyclic"], algorithm={"allgather": "ring"})
    strided = MPI.DOUBLE.Create_vector(2, 1, 3).Create_resized(0, 6 * 8).Commit()
    for counts in shapes(p, 3):
        displs = np.concatenate(([0], np.cumsum(counts)[:-1])).tolist()
        x = np.arange(2 * counts[rank], dtype="d") + 1000 * rank

        def call(c: Any, memory: Any, x: Any = x, counts: Any = counts, displs: Any = displs) -> None:
            if rank == 0 and c is comm:
                c.Allgatherv(x, [memory, counts, displs, strided])
                return
            packed = memory.view("d") if rank else np.empty(2 * sum(counts))
            c.Allgatherv(x, [packed, [2 * n for n in counts], [2 * d for d in displs], MPI.DOUBLE])
            if rank == 0:
                memory.view("d").reshape(-1, 6)[:, [0, 3]] = packed.reshape(-1, 2)

        both(world, call, comm, 8 * 6 * sum(counts))
    strided.Free()


@check()
def counts_that_nobody_gives_are_mpi4py_s(world: MPI.Intracomm) -> None:
    p, rank = world.size, world.rank
    comm = topocomm.Comm(world, topology=topologies(p)["flat"], algorithm={"allgather": "ring"})
    for n in (p, 3 * p + 1, 5 * p - 1):
        x = np.arange(n // p + (n % p > rank), dtype="i4")
        both(world, lambda c, memory: c.Allgatherv(x, memory.view("i4")), comm, 4 * n)
        both(world, lambda c, memory: c.Allgatherv(x, [memory.view("i4"), None, None, MPI.INT]), comm, 4 * n)


@check()
def wrong_sizes_of_an_allgatherv_are_refused(world: MPI.Intracomm) -> None:
    """Every rank raises, and the next call works."""
    p, rank = world.size, world.rank
    comm = topocomm.Comm(world, topology=topologies(p)["flat"], algorithm={"allgather": "ring"})
    if p == 1:
        return
    counts = [r + 1 for r in range(p)]
    total, x = sum(counts), np.full(rank + 1, float(rank))
    for send, recv, word in (
        (np.zeros(99), [np.zeros(total), counts], "sendbuf has 792 bytes"),
        (x, [np.zeros(total - 1), counts], "ends at byte"),
        (x, [np.zeros(total), [*counts, 1]], "whole numbers"),
        (x, [np.zeros(total), [-1, *counts[1:]]], "below zero"),
        (x, [np.zeros(total), counts, [0.5] * p, MPI.DOUBLE], "whole numbers"),
    ):
        found = raised(lambda: comm.Allgatherv(send, recv))
        assert isinstance(found, (BufferError, Error)), repr(found)
        assert word in str(found), found
        got = np.zeros(total)
        comm.Allgatherv(x, [got, counts])
        assert (got == np.repeat(np.arange(p), counts)).all()


def table(p: int, seed: int) -> Any:
    """Elements that every rank sends to every other: sparse, skewed."""
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 30, (p, p)) * (rng.random((p, p)) < 0.6)
    out[p // 2] *= 5
    return out


@check()
def alltoallv_agrees_with_the_library(world: MPI.Intracomm) -> None:
    for name, plain in communicators(world):
        p, rank = plain.Get_size(), plain.Get_rank()
        for seed, topology in enumerate(topologies(p).values() if name == "world" else [None]):
            comm = topocomm.Comm(plain, topology=topology, algorithm={"alltoall": "scattered"})
            for turn in range(4):
                counts = table(p, 10 * seed + turn)
                gap, backwards = turn % 2, turn > 1
                out, into = counts[rank].tolist(), counts[:, rank].tolist()
                sent, at = placed(out, gap, backwards), placed(into, gap, not backwards)
                x = np.arange(sum(out) + gap * (p + 1), dtype="d") + 1000 * rank

                def call(
                    c: Any, memory: Any, x: Any = x, out: Any = out, sent: Any = sent, into: Any = into, at: Any = at
                ) -> None:
                    c.Alltoallv([x, out, sent, MPI.DOUBLE], [memory.view("d"), (into, at)])

                both(plain, call, comm, 8 * (sum(into) + gap * (p + 1)))
            square = np.minimum(table(p, seed), table(p, seed).T)
            n = square[rank].tolist()

            def in_place(c: Any, memory: Any, n: Any = n) -> None:
                memory.view("i4")[:] = np.arange(len(memory) // 4) + 100 * rank
                c.Alltoallv(MPI.IN_PLACE, [memory.view("i4"), n])

            both(plain, in_place, comm, 4 * sum(n))


@check()
def alltoallw_exchanges_parts_of_arrays(world: MPI.Intracomm) -> None:
    """Columns become rows, as Fourier transforms do; sends may overlap; absolute addresses."""
    for name, plain in communicators(world):
        p, rank = plain.Get_size(), plain.Get_rank()
        comm = topocomm.Comm(plain, algorithm={"alltoall": "pairwise"})
        rows, columns = 2 * p + 1, 3 * p - 1
        cut_rows, cut_columns = (np.arange(p + 1) * n // p for n in (rows, columns))
        mine, width = int(cut_rows[rank + 1] - cut_rows[rank]), int(cut_columns[rank + 1] - cut_columns[rank])
        x = np.arange(mine * columns, dtype="d").reshape(mine, columns) + 1e4 * rank
        out, into = [], []
        for r in range(p):
            w, h = int(cut_columns[r + 1] - cut_columns[r]), int(cut_rows[r + 1] - cut_rows[r])
            out.append(MPI.DOUBLE.Create_subarray([mine, columns], [mine, w], [0, int(cut_columns[r])]).Commit())
            into.append(MPI.DOUBLE.Create_subarray([rows, width], [h, width], [int(cut_rows[r]), 0]).Commit())
        both(plain, lambda c, memory: c.Alltoallw([x, out], [memory, into]), comm, 8 * rows * width)
        ones, zeros = [1] * p, [0] * p
        sends = [MPI.Get_address(x)] * p
        if p > 1:  # else the call is the library's
            comm.Alltoallw([x, out], [wanted := np.zeros(rows * width), into])
            comm.Alltoallw([MPI.BOTTOM, ones, sends, out], [got := np.zeros(rows * width), (ones, zeros), into])
            assert (got == wanted).all(), "absolute addresses, which Open MPI's own refuses"
        kinds = [MPI.DOUBLE] * p
        both(
            plain,
            lambda c, m: c.Alltoallw([x, ones, zeros, kinds], [m, ones, [8 * r for r in range(p)], kinds]),
            comm,
            8 * p,
        )
        for datatype in (*out, *into):
            datatype.Free()
        assert name


@check(2)
def vectors_that_no_algorithm_is_named_for_are_the_library_s(world: MPI.Intracomm) -> None:
    """Without a word between ranks: their decisions stay empty, and arguments are mpi4py's."""
    comm = topocomm.Comm(world, topology=topologies(world.size)["cyclic"])
    p, rank = world.size, world.rank
    comm.Alltoallv([np.zeros(p), [1] * p], [np.zeros(p), [1] * p])
    comm.Alltoallw([np.zeros(p), [MPI.DOUBLE] * p], [np.zeros(p), [MPI.DOUBLE] * p])
    comm.Allgatherv(np.ones(rank), [np.zeros(p * (p - 1) // 2), list(range(p))])
    assert comm.decisions == ()
    with_error = raised(lambda: comm.Alltoallv(np.zeros(p), np.zeros(p), algorithm="nonsense"))
    assert isinstance(with_error, AlgorithmError), with_error


@check()
def skewed_vectors_go_in_equal_parts(world: MPI.Intracomm) -> None:
    """Blocks of which one is much larger than the others, or many are empty; in place, with gaps; bits of integers."""
    for name, plain in communicators(world):
        p, rank = plain.Get_size(), plain.Get_rank()
        for topology in topologies(p).values() if name == "world" else [None]:
            comm = topocomm.Comm(plain, topology=topology, algorithm={"allgather": "ring", "reduce_scatter": "ring"})
            for turn, counts in enumerate([n * 40 + n % 3 for n in shape] for shape in shapes(p, 5)):
                gap, in_place = turn % 2, turn % 3 == 2
                displs = placed(counts, gap, turn % 4 == 3)

                def gather(c: Any, memory: Any, n: Any = counts, d: Any = displs, in_place: bool = in_place) -> None:
                    recv, x = memory.view("i8"), np.arange(n[rank]) * 3 + 10_000 * rank
                    if in_place:
                        recv[d[rank] : d[rank] + n[rank]] = x
                    c.Allgatherv(MPI.IN_PLACE if in_place else x, [recv, n, d, MPI.INT64_T])

                both(plain, gather, comm, 8 * (sum(counts) + (p + 1) * gap))

                def reduce(c: Any, memory: Any, n: Any = counts, in_place: bool = in_place) -> None:
                    recv, x = memory.view("i8"), np.arange(sum(n)) * (rank + 1)
                    if in_place:
                        recv[:] = x
                        c.Reduce_scatter(MPI.IN_PLACE, recv, n)
                        recv[n[rank] :] = 0
                    else:
                        c.Reduce_scatter(x, recv[: n[rank]], n)

                both(plain, reduce, comm, 8 * sum(counts))
