"""Memory of every kind that mpi4py reads, on one rank alone or on all: no other rank is asked, nothing is replaced."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from harness import check, raised, wrap
from mpi4py import MPI

import topocomm
from topocomm.algorithms import TABLE

Form = Callable[[Any, int], Any]
"""(array, blocks) → a buffer argument that describes the array."""


class Tensor:
    """Memory that shows itself by DLPack only, as a tensor on the host does."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **more: Any) -> Any:
        """The capsule."""
        return self.array.__dlpack__(**more)

    def __dlpack_device__(self) -> Any:
        """The host."""
        return self.array.__dlpack_device__()


class OldTensor(Tensor):
    """The same by the protocol's first version."""

    def __dlpack__(self) -> Any:  # type: ignore[override]
        """The capsule."""
        return self.array.__dlpack__()


class Device:
    """Memory that says it is a device's: nobody but the MPI library may read it."""

    def __init__(self, array: Any) -> None:
        where = {"shape": array.shape, "typestr": array.dtype.str, "data": (array.ctypes.data, False), "version": 3}
        self.array, self.__cuda_array_interface__ = array, where


def _absolute(array: Any, blocks: int) -> Any:
    """The blocks as elements of a type that says where in the memory of the process they lie."""
    one = len(array) // blocks
    kind = MPI.Datatype.Create_struct([one], [array.ctypes.data], [MPI.DOUBLE]).Create_resized(0, 8 * one)
    return [MPI.BOTTOM, 1, kind.Commit()]


FORMS: dict[str, Form] = {
    "array": lambda a, _: a,
    "ctypes": lambda a, _: (ctypes.c_double * len(a)).from_buffer(a),
    "ctypes, typed": lambda a, k: [(ctypes.c_double * len(a)).from_buffer(a), len(a) // k, MPI.DOUBLE],
    "tensor": lambda a, _: Tensor(a),
    "old tensor": lambda a, _: OldTensor(a),
    "tensor, typed": lambda a, _: [Tensor(a), MPI.DOUBLE],
    "device": lambda a, _: Device(a),
    "device, counted": lambda a, k: [Device(a), len(a) // k],
    "device, in full": lambda a, k: [Device(a), (len(a) // k, 0), MPI.DOUBLE],
    "memoryview": lambda a, _: memoryview(a),
    "bytes of it": lambda a, _: [a.view("u1"), "d"],
}
MOVED: dict[str, Form] = {"bottom": _absolute}
"""Forms whose elements cannot be reduced by MPI's own operations."""

N = 600
Make = Callable[[Form, Form], tuple[tuple[Any, ...], list[Any], list[Any]]]


def _calls(rank: int, p: int) -> Iterator[tuple[str, Make]]:
    """(call, maker): a maker gives arguments with send and receive buffers in two forms, results and their values."""
    every = np.arange(N * p) % 97 + 0.5
    mine = every + rank
    total, root = every * p + p * (p - 1) / 2, p - 1
    here, part = rank == root, slice(rank * N, (rank + 1) * N)
    rows = np.concatenate([every[part] + r for r in range(p)])
    blocks = np.concatenate([every[:N] + r for r in range(p)])

    def made(
        send: Any,
        recv: int,
        wanted: Any,
        blocks: tuple[int, int],
        *more: Any,
        receives: bool = True,
        sends: bool = True,
    ) -> Make:
        def make(s: Form, r: Form) -> tuple[tuple[Any, ...], list[Any], list[Any]]:
            source, out = send.copy(), np.full(recv, -1.0)
            args = (s(source, blocks[0]) if sends else None, r(out, blocks[1]) if receives else None, *more)
            return args, [out, source], [wanted if receives else out.copy(), send]

        return make

    yield "Allreduce", made(mine, N * p, total, (1, 1))
    yield "Reduce", made(mine, N * p, total, (1, 1), MPI.SUM, root, receives=here)
    yield "Reduce_scatter_block", made(mine, N, total[part], (p, 1))
    yield "Reduce_scatter", made(mine, N, total[part], (1, 1), [N] * p)
    yield "Reduce_scatter", made(mine, N, total[part], (1, 1), None, MPI.SUM)
    yield "Allgather", made(mine[:N], N * p, blocks, (1, p))
    yield "Alltoall", made(mine, N * p, rows, (p, p))
    yield "Gather", made(mine[:N], N * p, blocks, (1, p), root, receives=here)
    yield "Scatter", made(mine, N, (every + root)[part], (p, 1), root, sends=here)

    def bcast(_: Any, r: Form) -> tuple[tuple[Any, ...], list[Any], list[Any]]:
        out = (every + root).copy() if here else np.zeros(N * p)
        return (r(out, 1), root), [out], [every + root]

    yield "Bcast", bcast


def _same(comm: Any, name: str, make: Make, send: Any, recv: Any, **settings: Any) -> None:
    args, found, wanted = make(send, recv)
    getattr(comm, name)(*args, **settings)
    for a, b in zip(found, wanted, strict=True):
        assert (a == b).all(), f"{name} on rank {comm.rank}: {a[:5]}, not {b[:5]}"


@check(2)
def one_rank_alone_has_other_memory(world: MPI.Intracomm) -> None:
    """After all have made the call with arrays; with algorithms named, which run, and with the automatic choice."""
    p, rank = world.size, world.rank
    named = {c: next(n for n in TABLE[c] if not TABLE[c][n].power_of_two) for c in TABLE}
    plain: Form = FORMS["array"]
    for settings in ({"algorithm": named}, {}, {"algorithm": {"allreduce": "native"}}):
        comm = wrap(world, "cyclic", **settings)  # type: ignore[arg-type]
        for name, make in _calls(rank, p):
            _same(comm, name, make, plain, plain)
            before = comm.decisions
            reduces = "educe" in name
            for number, (label, form) in enumerate((FORMS | ({} if reduces else MOVED)).items()):
                if number % p == rank:
                    _same(comm, name, make, form, plain)
                    _same(comm, name, make, plain, form)
                else:
                    _same(comm, name, make, plain, plain)
                    _same(comm, name, make, plain, plain)
                assert comm.decisions == before, f"{name}, {label}: {comm.decisions[-1]}"
                if settings.get("algorithm") is named:
                    assert comm.decisions[-1].algorithm == named[name.lower()]


@check()
def all_ranks_have_other_memory_at_once(world: MPI.Intracomm) -> None:
    comm = wrap(world, "pairs")
    for name, make in _calls(world.rank, world.size):
        for form in FORMS.values():
            for algorithm in (None, next(iter(TABLE[name.lower()]))):
                if algorithm and TABLE[name.lower()][algorithm].power_of_two and world.size & (world.size - 1):
                    continue
                _same(comm, name, make, form, form, algorithm=algorithm)


@check()
def receives_of_the_program_take_no_message_of_ours(world: MPI.Intracomm) -> None:
    """From any rank, with any tag, on the communicator itself, which may have one rank only."""
    comm = wrap(world, "cyclic")
    pending = world.Irecv(np.zeros(2000), MPI.ANY_SOURCE, MPI.ANY_TAG)
    for algorithm in (None, "binomial"):
        comm.Bcast([Device(x := np.full(900, float(world.rank))), MPI.DOUBLE], algorithm=algorithm)
        assert (x == 0).all()
    assert not pending.Test()
    pending.Cancel()
    pending.Wait()


@check()
def elements_that_reach_beyond_their_extent(world: MPI.Intracomm) -> None:
    """A user operation on overlapping elements: the MPI library's on every rank; an algorithm named is refused."""
    kind = MPI.DOUBLE.Create_contiguous(2).Create_resized(0, 8).Commit()
    op = MPI.Op.Create(lambda a, b, _: None, commute=True)
    comm, x = wrap(world, "cyclic"), np.ones(600)
    comm.Allreduce([x, 599, kind], [x.copy(), 599, kind], op)
    error = raised(lambda: comm.Allreduce([x, 599, kind], [x.copy(), 599, kind], op, algorithm="recursive_doubling"))
    assert isinstance(error, topocomm.AlgorithmError), error
    preferring = wrap(world, "cyclic", algorithm={"allreduce": "recursive_doubling"})
    preferring.Allreduce([x, 599, kind], [x.copy(), 599, kind], op)
    assert preferring.decisions[-1].algorithm == "native"
    assert "overlap" in preferring.decisions[-1].why
    op.Free()
    kind.Free()


@check(2)
def a_root_may_be_any_whole_number(world: MPI.Intracomm) -> None:
    comm = wrap(world, "cyclic", algorithm={"bcast": "binomial"})
    for root in (np.int64(1), np.array(1)[()], True):
        comm.Bcast(x := np.full(3, float(world.rank)), root=root)
        assert (x == 1).all()
    assert [d.algorithm for d in comm.decisions] == ["binomial"]


@check(2)
def in_place_elsewhere_than_at_the_root_is_said_and_nobody_waits(world: MPI.Intracomm) -> None:
    """The first time, again, and where all sizes go to the MPI library; the root has its result."""
    p, rank = world.size, world.rank
    want = {"Reduce": np.full(800, p * (p - 1) / 2), "Gather": np.repeat(np.arange(p), 100.0)}
    for settings in ({}, {"algorithm": {"reduce": "binomial", "gather": "binomial", "scatter": "binomial"}},
                     {"algorithm": "native"}):  # fmt: skip
        comm = wrap(world, "cyclic", **settings)  # type: ignore[arg-type]
        for n in (800, 800, 8, 8):
            for name in ("Reduce", "Gather"):
                whole = np.full(n * (p if name == "Gather" else 1), float(rank))
                error = raised(lambda: getattr(comm, name)(MPI.IN_PLACE, whole, root=0))
                if rank:
                    assert isinstance(error, topocomm.BufferError), error
                    assert f"{name} on rank {rank}: sendbuf is MPI.IN_PLACE, which only the root may give" in str(error)
                else:
                    assert error is None, error
                    wanted = want[name][0] if name == "Reduce" else np.repeat(np.arange(p), n)
                    assert (whole == wanted).all(), whole
            blocks = np.repeat(np.arange(p) + 10.0 * rank, n)
            error = raised(lambda: comm.Scatter(blocks, MPI.IN_PLACE, root=0))
            assert (error is None) == (rank == 0), error
            assert rank == 0 or "recvbuf is MPI.IN_PLACE, which only the root may give" in str(error), error
