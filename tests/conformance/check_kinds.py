"""Kinds of calls: what is agreed on once, and that a new size of a known kind costs no message and no memory."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import numpy as np
from harness import check, wrap
from mpi4py import MPI

from topocomm.comm.agreement import Agreement
from topocomm.comm.early import EARLY
from topocomm.comm.kinds import MOST_SIZES
from topocomm.comm.programs import KEPT_SIZES
from topocomm.topology import Topology

NAMED = {"allreduce": "rabenseifner", "bcast": "binomial", "reduce_scatter": "ring", "gather": "binomial"}


class Counted:
    """Counts the comparisons of all ranks while it is entered."""

    def __enter__(self) -> Counted:
        """Begin."""
        self.calls, self._was = 0, Agreement.largest

        def largest(agreement: Agreement, mine: Any) -> Any:
            self.calls += 1
            return self._was(agreement, mine)

        Agreement.largest = largest  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        Agreement.largest = self._was  # type: ignore[method-assign]


def _vary(comm: Any, n: int, root: int) -> None:
    p, rank = comm.size, comm.rank
    comm.Allreduce(np.full(n, float(rank)), out := np.zeros(n))
    assert (out == p * (p - 1) / 2).all()
    comm.Bcast(x := np.full(n, float(rank)), root)
    assert (x == root).all()
    counts = [(n + 3 * r) % (n + 5) for r in range(p)]
    comm.Reduce_scatter(np.ones(sum(counts)), out := np.zeros(counts[rank]), counts)
    assert (out == p).all()
    comm.Gather(np.full(n, rank, "i4"), out := np.zeros(n * p, "i4") if rank == root else None, root)
    assert rank != root or (out.reshape(p, n) == np.arange(p)[:, None]).all()


@check(3)
def another_size_of_a_known_kind_is_not_compared(world: MPI.Intracomm) -> None:
    for settings, most in (({"algorithm": NAMED}, 4), ({}, 96)):
        comm = wrap(world, "cyclic", **settings)  # type: ignore[arg-type]
        with Counted() as first:
            for n in range(1, 400, 7):
                _vary(comm, n, n % world.size)
        assert 4 <= first.calls <= most, first.calls
        assert len(comm.decisions) <= first.calls
        with Counted() as again:
            for n in range(399, 64, -7):  # smaller ones are of classes that may be new
                _vary(comm, n, (n + 1) % world.size)
        assert again.calls == 0


@check(3)
def every_call_is_compared_where_that_is_asked_for(world: MPI.Intracomm) -> None:
    os.environ["TOPOCOMM_CHECK"] = "always"
    comm = wrap(world, "cyclic")
    del os.environ["TOPOCOMM_CHECK"]
    for _ in range(3):
        with Counted() as calls:
            _vary(comm, 5, 0)
        assert calls.calls == 4


@check(2)
def memory_is_bounded_for_ever_new_sizes(world: MPI.Intracomm) -> None:
    comm = wrap(world, "cyclic", algorithm=NAMED)
    state = comm._live
    for n in range(1, KEPT_SIZES // 2):
        _vary(comm, n, 0)
    assert len(state.programs._sized) == KEPT_SIZES
    os.environ["TOPOCOMM_MEMO"] = "0"  # or calls are remembered in C, in bounded memory of its own
    natives = wrap(world, "cyclic", engine="python")  # dear enough never to be chosen for these
    del os.environ["TOPOCOMM_MEMO"]
    natives.Bcast(np.zeros(8))
    sizes = natives._live.kinds.native_sizes("bcast")
    for n in range(1, 513):
        natives.Bcast(np.zeros(n, "u1"))
    assert len(sizes) == MOST_SIZES or (world.size == 2 and sizes == {}), "two ranks have no distance"


@check(3)
def a_small_call_left_to_the_library_reads_no_argument(world: MPI.Intracomm) -> None:
    """Once its kind is known, whatever its bytes."""
    comm, p = wrap(world, "cyclic", engine="python"), world.size  # dear enough never to be chosen for these
    small, large, out = np.ones(4), np.ones(4 * p), np.zeros(4 * p)
    calls = (
        lambda: comm.Allreduce(small, out[:4]), lambda: comm.Allgather(small, out), lambda: comm.Alltoall(large, out),
        lambda: comm.Bcast(small), comm.Barrier, lambda: comm.Reduce(small, out[:4]),
        lambda: comm.Gather(small, out if comm.rank == 0 else None), lambda: comm.Scatter(large, out[:4]),
        lambda: comm.Reduce_scatter_block(large, out[:4]), lambda: comm.Reduce_scatter(large, out[:4], [4] * p),
    )  # fmt: skip
    for call in calls:
        call()
    seen: list[str] = []

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            seen.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        for call in calls:
            call()
            call()
    finally:
        sys.setprofile(None)
    assert "serve" not in seen, seen
    assert "parse" not in seen


@check(3)
def the_first_small_calls_of_derived_communicators_prepare_nothing(world: MPI.Intracomm) -> None:
    """Ranks count them alike, also where one's memory is read in another way; large calls are served as ever."""
    comm = wrap(world, "cyclic")
    _ = comm.Dup().Free()  # the family has its communicator
    for part in (comm.Dup(), comm.Split(0, -comm.rank), comm.Create_cart([comm.size])):
        with Counted() as calls:
            for i in range(EARLY):
                odd = i % 3 == 0 and part.rank == 1
                part.Allreduce((ctypes.c_double * 2)(1, 1) if odd else np.ones(2), out := np.zeros(2))
                assert (out == comm.size).all()
                root = i % part.size
                block, blocks = np.full(3, part.rank), np.zeros((part.size, 3), int) if part.rank == root else None
                part.Gather(block.tobytes() if odd else [block, MPI.BYTE], blocks, root)
                assert blocks is None or (blocks == np.arange(part.size)[:, None]).all()
        assert calls.calls == 0
        assert part.rank == 1 or part._state is None
        assert [(d.collective, d.algorithm) for d in part.decisions] == [("allreduce", "native"), ("gather", "native")]
        with Counted() as calls:
            part.Allreduce(np.ones(2), out := np.zeros(2))
            part.Allreduce(np.ones(1 << 16), big := np.zeros(1 << 16))
            part.Bcast(big, 0)
        assert calls.calls == 3
        assert (out == comm.size).all()
        assert part.decisions[-2].algorithm == part.explain("allreduce", 1 << 19).algorithm
        part.Free()


@check(3)
def algorithms_that_are_named_serve_the_first_calls_of_derived_communicators(world: MPI.Intracomm) -> None:
    comm = wrap(world, "cyclic", algorithm={"allreduce": "ring"})
    part = comm.Split(0, -comm.rank)
    part.Allreduce(np.ones(2), out := np.zeros(2))
    part.Bcast(out, 1, algorithm="binomial")
    assert [d.algorithm for d in part.decisions] == ["ring", "binomial"]
    assert (out == comm.size).all()
    part.Free()


@check(3)
def what_is_derived_of_a_communicator_that_is_gone_knows_its_places(world: MPI.Intracomm) -> None:
    """Nothing is worked out before it is needed; by then the parent's handle may be another communicator's."""
    comm = wrap(world.Dup(), "cyclic")
    parent = comm.Split(MPI.UNDEFINED if comm.rank == 0 else 0, -comm.rank)
    if parent == MPI.COMM_NULL:
        return
    part = parent.Split(0, -parent.rank)
    parent.Free()
    other = MPI.Intracomm(part).Split(0, -part.rank)  # takes the handle
    assert part._state is None
    places = [[r % 2] for r in range(1, comm.size)]
    assert part.machine_topology.signature == Topology(("node",), places).signature
    part.Allreduce(np.ones(1 << 16), out := np.zeros(1 << 16))
    assert (out == part.size).all()
    part.Free()
    other.Free()
