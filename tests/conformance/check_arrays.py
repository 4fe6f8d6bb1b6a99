"""Arrays that ranks of one host reach: what they are, and collectives that are written straight into them."""

from __future__ import annotations

import gc
from itertools import product
from typing import Any

import numpy as np
from check_shared import shared
from harness import check, raised
from mpi4py import MPI

import topocomm
from topocomm.engines import node

LENGTHS = (2001, 40_000, 150_001)
"""Elements of a block: beyond the lines, beyond blocks of the work, beyond all that caches hold."""

REDUCE = ("Allreduce", "Reduce_scatter", "Reduce_scatter_block")
"""Calls that go through stages where arrays cannot be reached; others are left to the MPI library."""


@check(2)
def calls_on_reachable_arrays_are_written_by_their_ranks(world: MPI.Intracomm) -> None:
    """Every call equals the library's, also where some rank's arrays, or all ranks', are ordinary ones."""
    comm, p, made = shared(world.Dup()), world.size, recorded()
    for step, n in enumerate(LENGTHS):
        for dtype in (np.float64, np.int32):
            values = {rank: ((np.arange(n * p) * 7 + rank + step) % 251).astype(dtype) for rank in range(p)}
            for name, (send, recv) in sizes(n, p).items():
                for ordinary in ((), (p - 1,), range(p)):
                    make = np.empty if world.rank in ordinary else topocomm.empty
                    mine, out = make(send, dtype), make(recv, dtype)
                    mine[:] = values[world.rank][:send]
                    expected, given = np.zeros(recv, dtype), mine.copy()
                    run(name, MPI.Intracomm(world), given, expected, step % p)
                    made.clear()
                    result = run(name, comm, mine, out, step % p)
                    np.testing.assert_array_equal(result, given if name == "Bcast" else expected)
                    assert made == [not ordinary or name in REDUCE], (name, ordinary, made)
    comm.Free()


@check(2)
def calls_in_place_are_made_alike(world: MPI.Intracomm) -> None:
    comm, p, n, made = shared(world.Dup()), world.size, 150_000, recorded()
    for name, make in product(
        ("Allreduce", "Allgather", "Alltoall", "Reduce_scatter_block"), (topocomm.empty, np.empty)
    ):
        ours, theirs = make(n * p), np.empty(n * p)
        ours[:] = theirs[:] = np.arange(n * p) % 13 + world.rank
        size = n if name == "Allreduce" else n * p
        made.clear()
        for target, array in ((comm, ours), (MPI.Intracomm(world), theirs)):
            getattr(target, name)(MPI.IN_PLACE, array[:size])
        keep = n if name == "Reduce_scatter_block" else size
        np.testing.assert_array_equal(ours[:keep], theirs[:keep])
        direct = make is topocomm.empty and name in ("Allreduce", "Allgather")
        assert made == [direct or name in REDUCE], (name, made)
    comm.Free()


@check(2)
def ranks_that_call_differently_are_named(world: MPI.Intracomm) -> None:
    comm = shared(world.Dup())
    out = topocomm.empty(20_000)
    comm.Allreduce(out.copy(), out)
    n = 10_000 + (world.rank == 0)
    found = raised(lambda: comm.Allreduce(topocomm.empty(n), out[:n]))
    assert isinstance(found, topocomm.Error), found
    assert "allreduce of 80008 bytes" in str(found), found
    assert "allreduce of 80000 bytes" in str(found), found


@check(1)
def arrays_are_numpys_and_their_memory_comes_back(world: MPI.Intracomm) -> None:
    for shape, dtype, order in (
        ((), "f8", "C"),
        (0, "i4", "C"),
        (7, "u1", "C"),
        ((3, 5), "c16", "F"),
        ((2, 0, 3), "f4", "C"),
    ):
        ours, theirs = topocomm.empty(shape, dtype, order), np.zeros(shape, dtype, order)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert ours.size == 0 or ours.strides == theirs.strides
        np.testing.assert_array_equal(ours, theirs)
        like = topocomm.empty_like(theirs, np.int16)
        assert (like.shape, like.dtype, like.flags.f_contiguous) == (theirs.shape, np.int16, theirs.flags.f_contiguous)
    for _ in range(40):
        big = topocomm.zeros(1 << 17)
        assert big[0] == big[-1] == 0, "memory that was given back is zero when it is taken again"
        big[:] = 1
        view = big[5:10]
        del big
        gc.collect()
        assert (view == 1).all(), "a view keeps the memory"
    for bad in (
        lambda: topocomm.empty(3, object),
        lambda: topocomm.empty(3, "f8", "K"),
        lambda: topocomm.empty((2, -1)),
    ):
        assert isinstance(raised(bad), topocomm.BufferError)


def recorded() -> list[bool]:
    """Return a list to which every large call adds whether it was made."""
    made: list[bool] = []
    run_ = getattr(node.LargeCall.run, "original", node.LargeCall.run)

    def recording(call: node.LargeCall, send: Any, recv: Any) -> bool:
        made.append(run_(call, send, recv))
        return made[-1]

    recording.original = run_  # type: ignore[attr-defined]
    node.LargeCall.run = recording  # type: ignore[method-assign]
    return made


def sizes(n: int, p: int) -> dict[str, tuple[int, int]]:
    """Return the elements that a rank gives and gets in each collective."""
    return {
        "Allreduce": (n, n), "Bcast": (n, n), "Allgather": (n, n * p), "Alltoall": (n * p, n * p),
        "Reduce_scatter_block": (n * p, n), "Reduce_scatter": (n * p, n),
    }  # fmt: skip


def run(name: str, comm: MPI.Intracomm, mine: Any, out: Any, root: int) -> Any:
    """Make a call; return its result."""
    if name == "Bcast":
        comm.Bcast(mine, root)
        return mine
    if name == "Reduce_scatter":
        comm.Reduce_scatter(mine, out, [len(out)] * comm.Get_size())
    else:
        getattr(comm, name)(mine, out)
    return out
