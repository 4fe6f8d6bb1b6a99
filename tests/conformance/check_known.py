"""Calls that are known are made in C: the same results, and the same errors, as the first time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from check_matrix import Arguments, Decks, algorithms, close
from harness import check, topologies
from mpi4py import MPI

import topocomm
from topocomm.collectives import COLLECTIVES

_CASES = 2
_TIMES = 3
NAMED = {"allreduce": "rabenseifner", "bcast": "binomial", "barrier": "dissemination", "reduce": "binomial"}


def wrap(world: MPI.Intracomm, algorithm: Any, topology: str = "cyclic") -> topocomm.Comm:
    """A wrapped communicator on an artificial machine."""
    return topocomm.Comm(world, topology=topologies(world.Get_size())[topology], algorithm=algorithm)


def hits(comm: topocomm.Comm) -> int:
    """Return the number of calls that were made in C."""
    counts = comm._memo_counts()
    return 0 if counts is None else counts["native"] + counts["programs"]


@check(1)
def every_algorithm_gives_the_same_again(world: MPI.Intracomm) -> None:
    """Each case several times, in fresh memory, on a communicator that names the algorithm."""
    p, rank = world.Get_size(), world.Get_rank()
    decks = {name: Decks(name, p, p) for name in COLLECTIVES}
    again = 0
    for collective, deck in decks.items():
        for algorithm in (*algorithms(collective, p), "native"):
            comm = wrap(world, None if algorithm is None else {collective: algorithm})
            for _ in range(_CASES):
                case = deck.deal(algorithm, p)
                if case.place == "aliased" and algorithm in (None, "native"):
                    case.place = "in place"
                for _ in range(_TIMES):
                    oracle, ours = Arguments(case, rank, p, True), Arguments(case, rank, p, False)
                    if collective == "gather":
                        world.Gatherv(*oracle.vectors(), *oracle.more)
                    else:
                        getattr(world, collective.capitalize())(*oracle.args, *oracle.more)
                    getattr(comm, collective.capitalize())(*ours.args, *ours.more)
                    ours.clean()
                    assert close(case, ours.outcome(), oracle.outcome(), p), f"{case} on rank {rank} of {p}"
            again += hits(comm)
    assert again > 100 or comm._memo_counts() is None, again


_COUNTED = 3
"""Elements of a block, in memory that holds more."""


def _counted(p: int, rank: int) -> dict[str, tuple[str, list[Any]]]:
    """Return calls with counts that are given: the method, and its arguments in fresh memory."""
    n, double = _COUNTED, MPI.DOUBLE
    x, y = np.arange(4.0 * n * p) + rank, np.full(4 * n * p, -1.0)
    counts = [(r + 1) % 3 for r in range(p)]
    whole, own = sum(counts), counts[rank]
    pair = [[x, n, double], [y, n, double]]
    return {
        **{name: (name, pair) for name in ("Allgather", "Alltoall", "Allreduce", "Reduce_scatter_block")},
        **{
            name: (name, [*pair, *more])
            for name, more in (("Reduce", [MPI.MAX, p - 1]), ("Gather", [0]), ("Scatter", [0]))
        },
        "Bcast": ("Bcast", [[x, n, double], p - 1]),
        "Allgather in place": ("Allgather", [MPI.IN_PLACE, [y, n, double]]),
        "Alltoall in place": ("Alltoall", [MPI.IN_PLACE, [y, n, double]]),
        "Allreduce in place": ("Allreduce", [MPI.IN_PLACE, [x, n, double]]),
        "Reduce_scatter": ("Reduce_scatter", [[x, whole, double], [y, own, double], counts]),
        "Reduce_scatter of arrays": ("Reduce_scatter", [x[:whole], y[:own], tuple(counts), MPI.MIN]),
    }


def _memory(args: list[Any]) -> list[Any]:
    found = [arg[0] if isinstance(arg, list) and isinstance(arg[0], np.ndarray) else arg for arg in args]
    return [array.tolist() for array in found if isinstance(array, np.ndarray)]


@check(1)
def counts_mean_what_they_mean_to_mpi4py(world: MPI.Intracomm) -> None:
    """A count is that of one block; calls with counts are known, too."""
    p, rank = world.Get_size(), world.Get_rank()
    for algorithm in ("native", NAMED):
        comm = wrap(world, algorithm)
        for name in _counted(p, rank):
            method, wanted = _counted(p, rank)[name]
            getattr(world, method)(*wanted)
            before = hits(comm)
            for _ in range(_TIMES):
                _, args = _counted(p, rank)[name]
                getattr(comm, method)(*args)
                assert _memory(args) == _memory(wanted), f"{name} on rank {rank} of {p}, {algorithm}"
            if algorithm == "native" and comm._memo_counts() is not None and rank % 3 < 2:  # others get no elements
                assert hits(comm) > before, name


@check(2)
def bad_arguments_of_known_calls_raise_as_before(world: MPI.Intracomm) -> None:
    """On all ranks at once, so that nobody waits."""
    for algorithm in ("native", NAMED):
        comm = wrap(world, algorithm)
        x, y = np.ones(4), np.zeros(4)
        for _ in range(2):
            comm.Allreduce(x, y)
        constant = np.zeros(4)
        constant.flags.writeable = False
        swapped, single = x.astype(x.dtype.newbyteorder()), np.zeros(4, "f4")
        for bad in ((x, constant), (x, y[::2]), (swapped, y), (x, np.zeros(5)), (x, single), (None, constant)):
            for target in (world, comm):
                try:
                    target.Allreduce(*bad)
                except (ValueError, KeyError, BufferError, topocomm.BufferError):
                    continue
                raise AssertionError(bad)
        assert (y == world.Get_size()).all() or algorithm is NAMED, "nothing was written"
        comm.Allreduce(x, y)
        assert (y == world.Get_size()).all()


@check(2)
def an_error_of_mpi_in_a_known_call_is_raised(world: MPI.Intracomm) -> None:
    """A vector that is shorter than the root's: only the MPI library can see it."""
    part = world.Split(world.rank // 2)
    comm, x = wrap(part, "native", "flat"), np.zeros(8)
    for _ in range(2):
        comm.Bcast(x)
    before = hits(comm)
    if comm.size == 2 and comm.rank == 0:
        comm.Bcast(x)
    elif comm.size == 2:
        with pytest.raises(MPI.Exception) as caught:
            comm.Bcast(x[:4])
        assert caught.value.Get_error_class() == MPI.ERR_TRUNCATE
    if comm.size == 2 and comm._memo_counts() is not None:
        assert hits(comm) == before + 1 == 2
    part.Free()


@check(2)
def known_calls_of_two_threads_may_wait_for_each_other(world: MPI.Intracomm) -> None:
    """The interpreter's lock is free while a known call waits, or this ends never."""
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        return
    for algorithm in ("native", NAMED):
        one, two = wrap(world.Dup(), algorithm), wrap(world.Dup(), algorithm)
        x, y, z = np.ones(100), np.zeros(100), np.zeros(100)
        for _ in range(2):
            one.Allreduce(x, y)
            two.Allreduce(x, z)
        for _ in range(3):
            y[:] = z[:] = 0
            if world.rank == 0:
                thread = threading.Thread(target=one.Allreduce, args=(x, y))
                thread.start()
                threading.Event().wait(0.02)
                two.Allreduce(x, z)
                thread.join()
            else:
                two.Allreduce(x, z)
                one.Allreduce(x, y)
            assert (y == world.size).all()
            assert (z == world.size).all()
        for comm in (one, two):
            assert hits(comm) >= 2 or comm._memo_counts() is None
            comm.Free()


@check(2)
def a_known_call_waits_for_a_late_rank(world: MPI.Intracomm) -> None:
    """Longer than C waits at a time: Python finishes the call, and the next ones are known again."""
    comm = wrap(world, NAMED)
    x, y = np.ones(3), np.zeros(3)
    for turn in range(6):
        if turn % 2 and world.rank == 0:
            threading.Event().wait(0.05)
        comm.Allreduce(x, y)
        assert (y == world.Get_size()).all()
    assert hits(comm) >= 2 or comm._memo_counts() is None
