"""Derived datatypes, and types that differ between sender and receiver but match in signature."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import check, communicators, raised, wrap
from mpi4py import MPI

import topocomm

Make = Callable[[int, int], tuple[list[Any], tuple[Any, ...]]]
"""(rank, ranks) → memories to compare afterwards, arguments of the call."""


def same(wrapped: topocomm.Comm, name: str, make: Make, **settings: Any) -> None:
    """Run a call on both, on memory made twice, and compare all of the memory, gaps included."""
    plain = MPI.Intracomm(wrapped)
    kept, args = make(plain.Get_rank(), plain.Get_size())
    getattr(plain, name)(*args)
    mine, args = make(plain.Get_rank(), plain.Get_size())
    getattr(wrapped, name)(*args, **settings)
    for found, wanted in zip(mine, kept, strict=True):
        assert bytes(found) == bytes(wanted), f"{name} on rank {plain.Get_rank()}: {found!r}, not {wanted!r}"


def _column(rows: int, p: int) -> MPI.Datatype:
    """A column of a rows × p matrix of float64, resized so that columns follow one another."""
    vector = MPI.DOUBLE.Create_vector(rows, 1, p)
    return vector.Create_resized(0, 8).Commit()


ROWS = 5


def _matrix(rank: int, p: int) -> Any:
    return np.arange(ROWS * p, dtype="f8").reshape(ROWS, p) + 1000 * rank


@check()
def columns_meet_contiguous_memory(world: MPI.Intracomm) -> None:
    column = _column(ROWS, world.Get_size())

    def scatter(rank: int, p: int) -> Any:
        out = np.full(ROWS + 2, -1.0)
        full = _matrix(rank, p)
        return [out, full], ([full, 1, column] if rank == p - 1 else None, [out, (ROWS, 1), MPI.DOUBLE], p - 1)

    def gather(rank: int, p: int) -> Any:
        full = np.full((ROWS, p), -1.0)
        own = np.arange(ROWS) + 10.0 * rank
        return [full, own], (own, [full, 1, column] if rank == 0 else None, 0)

    def allgather(rank: int, p: int) -> Any:
        full = np.full((ROWS, p), -1.0)
        return [full], (np.arange(ROWS) + 10.0 * rank, [full, 1, column])

    def alltoall(rank: int, p: int) -> Any:
        full = np.full((p, ROWS), -1.0)
        return [full], ([_matrix(rank, p), 1, column], [full, ROWS, MPI.DOUBLE])

    def bcast(rank: int, p: int) -> Any:
        full, out = _matrix(rank, p), np.full(ROWS, -1.0)
        return [full, out], ([full, 1, column] if rank == 0 else out, 0)

    comm = wrap(world, "random3")
    for name, make in (
        ("Scatter", scatter), ("Gather", gather), ("Allgather", allgather), ("Alltoall", alltoall), ("Bcast", bcast),
    ):  # fmt: skip
        same(comm, name, make)
    column.Free()


@check()
def gaps_negative_bounds_and_short_ends(world: MPI.Intracomm) -> None:
    """Gaps of a receiving type stay; a type may reach before its buffer, and its last gap may lie behind the memory."""
    back = MPI.INT.Create_hindexed([1, 1], [-8, 0]).Commit()
    struct = MPI.Datatype.Create_struct([1, 1], [0, 8], [MPI.DOUBLE, MPI.SHORT]).Create_resized(0, 16).Commit()
    swapped = MPI.INT.Create_indexed([1, 1], [1, 0]).Commit()

    def before(rank: int, p: int) -> Any:
        memory = np.arange(6, dtype="i4") + 100 * rank
        plain = np.array([rank, rank + 1], "i4")
        return [memory, plain], ([memory[3:], 1, back] if rank == 0 else plain, 0)

    def short(rank: int, p: int) -> Any:
        memory = np.full(16 * p - 6, 7 + rank, np.uint8)
        own = np.full(10, 50 + rank, np.uint8)
        return [memory], ([own, 1, struct], [memory, 1, struct])

    def turned(rank: int, p: int) -> Any:
        memory = np.arange(4, dtype="i4") + 100 * rank
        return [memory], ([memory, 2, swapped if rank == 0 else MPI.INT.Create_contiguous(2).Commit()], 0)

    comm = wrap(world)
    same(comm, "Bcast", before)
    same(comm, "Allgather", short)
    same(comm, "Bcast", turned)


@check()
def bottom_is_read_on_the_rank_that_gives_it(world: MPI.Intracomm) -> None:
    comm = wrap(world)
    value = np.arange(4.0) + 10 * world.rank
    if world.rank == 0:
        absolute = MPI.DOUBLE.Create_hindexed([4], [MPI.Get_address(value)]).Commit()
        comm.Bcast([MPI.BOTTOM, 1, absolute])
        absolute.Free()
    else:
        comm.Bcast(value)
    assert value.tolist() == [0, 1, 2, 3]
    comm.Bcast(value, 0)


@check()
def memory_of_any_kind(world: MPI.Intracomm) -> None:
    def octets(rank: int, p: int) -> Any:
        out = bytearray(3 * p)
        return [out], (bytes([rank, rank + 1, 9]), out)

    def arrays(rank: int, p: int) -> Any:
        out = array("i", [-1] * p)
        return [out], (array("i", [rank * 3]), memoryview(out))

    def columns(rank: int, p: int) -> Any:
        mine = np.asfortranarray(np.arange(6.0).reshape(2, 3) + rank)
        out = np.zeros((2, 3, p), order="F")
        return [out.T.copy()], (mine, out)

    def letters(rank: int, p: int) -> Any:
        out = np.zeros(p, "S1")
        return [out], (np.array([b"abcdefgh"[rank : rank + 1]]), out)

    def scalar(rank: int, p: int) -> Any:
        out = np.array(float(rank))
        return [out], (out,)

    def nothing(rank: int, p: int) -> Any:
        return [], ([None, 0, MPI.INT], 0)

    comm = wrap(world, "unequal")
    for make in (octets, arrays, columns, letters):
        same(comm, "Allgather", make)
    same(comm, "Bcast", scalar)
    same(comm, "Bcast", nothing)


@check()
def long_and_long_long_meet(world: MPI.Intracomm) -> None:
    for _, comm in communicators(wrap(world)):
        out = np.zeros(3, "q" if comm.Get_rank() % 2 else "l")
        comm.Allreduce(np.full(3, comm.Get_rank(), out.dtype.char), out)
        assert (out == sum(range(comm.Get_size()))).all()


@check()
def freed_types_and_operations_leave_no_stale_plan(world: MPI.Intracomm) -> None:
    """Handles are used again."""
    comm = wrap(world)
    p = world.size
    for width in (1, 2, 3):
        kind = MPI.DOUBLE.Create_contiguous(width).Commit()
        op = MPI.Op.Create(lambda a, b, _: _add(a, b), commute=width != 2)
        out = np.zeros(2 * width)
        comm.Allreduce([np.arange(2.0 * width) + world.rank, 2, kind], [out, 2, kind], op)
        assert out.tolist() == [p * i + p * (p - 1) / 2 for i in range(2 * width)]
        kind.Free()
        op.Free()


def _add(a: Any, b: Any) -> None:
    np.frombuffer(b)[:] += np.frombuffer(a)


@check()
def what_mpi4py_refuses_is_refused_alike(world: MPI.Intracomm) -> None:
    """On every rank the class of exception that mpi4py raises."""
    comm = wrap(world)
    p = world.size
    a = np.arange(4.0)
    calls: list[Callable[[Any], object]] = [
        lambda c: c.Bcast(None),
        lambda c: c.Bcast(3),
        lambda c: c.Bcast([a, 1, 2, 3, 4]),
        lambda c: c.Bcast([a, -1, MPI.DOUBLE]),
        lambda c: c.Bcast([a, (1, -1), MPI.DOUBLE]),
        lambda c: c.Bcast([a, (1, 1, 1), MPI.DOUBLE]),
        lambda c: c.Bcast([a, 1.5, MPI.DOUBLE]),
        lambda c: c.Bcast(np.zeros((3, 3))[:, 1]),
        lambda c: c.Bcast([a, "zz"]),
        lambda c: c.Bcast(np.array(["x"], "O")),
        lambda c: c.Bcast(a, root=p),
        lambda c: c.Bcast(a, root=-5),
        lambda c: c.Reduce(a, np.zeros(4), root=p),
        lambda c: c.Gather(a, None, root=p + 1),
        lambda c: c.Scatter(None, a, root=-7),
        lambda c: c.Allreduce(a, np.zeros(5)),
        lambda c: c.Allreduce(a, np.zeros(4, "i4")),
        lambda c: c.Allreduce(a, a.copy(), MPI.OP_NULL),
        lambda c: c.Allreduce(a, a.copy(), MPI.BAND),
        lambda c: c.Allreduce(a, a.copy(), None),
        lambda c: c.Allreduce(a, a.copy(), max),
        lambda c: c.Reduce_scatter(np.zeros(2 * p), np.zeros(2), [2] * (p + 1)),
        lambda c: c.Reduce_scatter(np.zeros(2 * p), np.zeros(2), [3] * p),
        lambda c: c.Reduce_scatter(np.zeros(2 * p), np.zeros(2), 2),
        lambda c: c.Reduce_scatter_block(np.zeros(2 * p), np.zeros(3)),
    ]  # fmt: skip
    for number, call in enumerate(calls):
        native, ours = raised(lambda: call(world)), raised(lambda: call(comm))
        assert native is not None, f"call {number} passes mpi4py"
        assert ours is not None, f"call {number} passes, mpi4py raises {native!r}"
        kinds = next(c for c in type(native).__mro__ if c.__module__ != "topocomm.errors")
        assert isinstance(ours, kinds), f"call {number}: {ours!r}, mpi4py raises {native!r}"
        world.Barrier()
