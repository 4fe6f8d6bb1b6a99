"""Collectives through memory that the ranks of one host share: results, choice, mistakes, messages under way."""

from __future__ import annotations

import gc
import os
from typing import Any

import numpy as np
from check_matrix import TYPES, Decks, compare
from harness import check, communicators, raised
from mpi4py import MPI

import topocomm
from topocomm.choose.shared import LARGEST
from topocomm.collectives import COLLECTIVES, PREFIXES
from topocomm.comm.early import EARLY
from topocomm.topology import Topology


def one_node(p: int) -> Topology:
    """All ranks on one node, in pairs of cores."""
    return Topology(("node", "core"), [["n", r // 2] for r in range(p)])


def shared(comm: MPI.Intracomm, **settings: Any) -> topocomm.Comm:
    """``comm`` wrapped as what it is, ranks of one node, all calls through their memory that can go there."""
    settings = {"algorithm": "shared", **settings}
    return topocomm.Comm(comm, topology=one_node(comm.Get_size()), **settings)


@check()
def shared_memory_agrees_with_the_library(world: MPI.Intracomm) -> None:
    """Over communicators, types, operations, counts, roots, in place and forms; larger vectors go elsewhere."""
    p = world.Get_size()
    for name, plain in communicators(world):
        size = plain.Get_size()
        wrapped = shared(plain)
        decks = {collective: Decks(collective, p, len(name)) for collective in COLLECTIVES}
        for _ in range(3 * len(TYPES) if name == "world" else 8):
            for collective in COLLECTIVES:
                case = decks[collective].deal(None, size)
                if collective == "gather":  # MPICH 5.0.2's own fails for large ones of some types
                    case.count = min(case.count, 127)
                compare(plain, wrapped, case)
        through = {d.collective for d in wrapped.decisions if d.algorithm == "shared"}
        assert through == (set(COLLECTIVES) - set(PREFIXES) if size > 1 else set()), wrapped.decisions


@check()
def children_of_a_communicator_share_memory_of_their_own(world: MPI.Intracomm) -> None:
    for name, wrapped in communicators(shared(world)):
        assert isinstance(wrapped, topocomm.Comm)
        decks = {collective: Decks(collective, world.Get_size(), len(name)) for collective in COLLECTIVES}
        for _ in range(6):
            for collective in COLLECTIVES:
                case = decks[collective].deal(None, wrapped.Get_size())
                case.count = min(case.count, 127)
                compare(MPI.Intracomm(wrapped), wrapped, case)


@check(2)
def one_way_calls_run_ahead_as_far_as_there_is_room(world: MPI.Intracomm) -> None:
    """A root does not wait for the others in every call, and overwrites nothing that they have not read."""
    comm = shared(world)
    for root in range(world.size):
        for n in (1, 6, 7, 100, LARGEST // 8):
            for turn in range(40):
                x = np.full(n, float(turn + root)) if world.rank == root else np.zeros(n)
                comm.Bcast(x, root)
                assert (x == turn + root).all()
                total = np.zeros(n) if world.rank == root else None
                comm.Reduce(x, total, MPI.MAX, root)
                assert total is None or (total == turn + root).all()


@check(2)
def several_communicators_are_used_at_once(world: MPI.Intracomm) -> None:
    """Children and duplicates in another order on every rank where the calls do not wait for all."""
    comm = shared(world)
    children = [comm.Dup() for _ in range(5)]
    halves = comm.Split(world.rank % 2, -world.rank)
    for turn in range(20):
        for i, child in enumerate(children):
            y = np.zeros(3)
            child.Allreduce(np.full(3, float(world.rank + i + turn)), y)
            assert (y == sum(r + i + turn for r in range(world.size))).all()
        got = np.zeros(halves.size, int)
        halves.Allgather(np.array([world.rank]), got)
        assert got.tolist() == sorted(got, reverse=True)
    for child in (*children, halves):
        child.Free()
        assert raised(child.Barrier) is not None
    comm.Barrier()


@check(2)
def a_message_is_received_after_a_collective_that_its_sender_waits_in(world: MPI.Intracomm) -> None:
    """Who waits for a line drives MPI: without that a large message, received first elsewhere, would never move."""
    comm = shared(world)
    comm.Barrier()
    big, got, other = np.full(1 << 21, float(world.rank)), np.empty(1 << 21), world.rank ^ 1
    for call in (
        comm.Barrier,
        lambda: comm.Allreduce(np.ones(4), np.zeros(4)),
        lambda: comm.Bcast(np.ones(4), root=world.size - 1 - (world.size % 2)),  # a rank that receives first
    ):
        if other < world.size and world.rank % 2 == 0:
            request = world.Isend(big, other, 99)
            call()
            request.Wait()
        elif other < world.size:
            world.Recv(got, other, 99)
            assert (got == other).all()
            call()
        else:
            call()


@check(2)
def order_and_operations_of_the_program(world: MPI.Intracomm) -> None:
    """What is not commutative keeps the order of ranks, as the MPI library's own; named, it is refused."""
    comm = shared(world)
    second = MPI.Op.Create(lambda a, b, _: None, commute=False)  # b stays: the last rank's
    y = np.zeros(2, "i8")
    comm.Allreduce(np.full(2, world.rank), y, second)
    assert (y == world.size - 1).all()
    assert comm.decisions[-1].algorithm == "native"
    error = raised(lambda: comm.Allreduce(np.full(2, world.rank), y, second, algorithm="shared"))
    assert isinstance(error, topocomm.AlgorithmError)
    assert "own" in str(error)
    declared = topocomm.elementwise(MPI.Op.Create(lambda a, b, _: None, commute=True))
    comm.Allreduce(np.full(2, world.rank), y, declared)
    assert comm.decisions[-1].algorithm == "native"
    second.Free()
    declared.Free()


@check(2)
def derived_communicators_share_once_they_have_made_some_calls(world: MPI.Intracomm) -> None:
    """What is soon gone opens no memory; the ranks count alike, also where one's arguments take another path."""
    part = shared(world, algorithm=None).Dup()
    y = np.zeros(1)
    for i in range(EARLY):
        mine = np.ones(2)[::2] if i % 3 == 0 and world.rank == 0 else np.ones(1)
        part.Allreduce(mine, y)
        assert y[0] == world.size
        part.Bcast(np.ones(1 << 20))
    early, large = part.decisions
    assert (early.collective, early.algorithm, large.collective) == ("allreduce", "native", "bcast")
    part.Allreduce(np.ones(1), y)
    assert part.decisions[-1].algorithm == part.explain("allreduce", 8).algorithm
    assert y[0] == world.size
    part.Free()


@check(2)
def the_choice_says_that_memory_is_shared(world: MPI.Intracomm) -> None:
    comm = shared(world, algorithm=None)
    comm.Allreduce(np.ones(1), np.zeros(1))
    crowded = world.size > len(os.sched_getaffinity(0))
    taken = "shared" if crowded or world.size <= 8 else "native"
    assert comm.decisions[-1].algorithm == taken
    assert comm.explain("barrier", 0).algorithm == taken
    assert comm.explain("allreduce", 1 << 22).algorithm == "native"
    assert "one host" in str(comm.explain("allreduce", 8)) or taken == "native"
    y = np.zeros(1)
    comm.Allreduce(np.ones(1), y, algorithm="native")
    assert comm.decisions[-1].algorithm == "native"
    comm.Allreduce(np.ones(1), y, algorithm="shared")
    assert comm.decisions[-1].algorithm == "shared"
    error = raised(lambda: comm.Reduce(np.ones(LARGEST), np.ones(LARGEST), algorithm="shared"))
    assert isinstance(error, topocomm.AlgorithmError)
    assert str(8 * LARGEST) in str(error)
    for settings in ({"algorithm": "native"}, {"engine": "python"}):
        other = shared(world, **settings)
        other.Allreduce(np.ones(1), y)
        assert other.decisions[-1].algorithm == "native"
    named = shared(world, algorithm="shared")
    named.Allreduce(np.ones(1), y)
    assert named.decisions[-1].algorithm == "shared"
    named.Reduce(np.ones(LARGEST), x := np.zeros(LARGEST))
    assert world.rank != 0 or (x == world.size).all()
    assert named.decisions[-1].algorithm == "native"
    assert "too many" in named.decisions[-1].why
    apart = topocomm.Comm(world, topology=Topology(("node",), [[r] for r in range(world.size)]))
    error = raised(lambda: apart.Barrier(algorithm="shared"))
    assert isinstance(error, topocomm.AlgorithmError)
    assert "not on one node" in str(error)


@check(2)
def ranks_that_call_differently_are_told(world: MPI.Intracomm) -> None:
    """Calls of known kinds are not compared; the lines are, and the communicator makes no more such calls."""
    odd = world.rank == 1
    x, y, z = np.ones(4), np.zeros(4), np.zeros(4 * world.size)
    mistakes = [
        lambda c: c.Allreduce(x[: 3 if odd else 4], y[: 3 if odd else 4]),
        lambda c: c.Allreduce(x, y, MPI.MAX if odd else MPI.SUM),
        lambda c: c.Bcast(x) if odd else c.Allreduce(x, y),
        lambda c: c.Barrier() if odd else c.Allgather(x, z),
        lambda c: c.Allreduce(x.astype("i8" if odd else "f8"), y.astype("i8" if odd else "f8")),
    ]
    for mistake in mistakes:
        comm = shared(world)
        for _ in range(2):
            comm.Allreduce(x, y)
            comm.Bcast(x)
            comm.Barrier()
            comm.Allgather(x, z)
        error = raised(lambda: mistake(comm)) or raised(comm.Barrier)
        assert isinstance(error, topocomm.Error), error
        assert "call differently" in str(error)
        assert f"rank {world.rank}" in str(error)
        again = raised(comm.Barrier)
        assert "call differently" in str(again)


@check(2)
def a_thousand_communicators_come_and_go(world: MPI.Intracomm) -> None:
    """Each has its memory, and gives it back."""
    comm = shared(world)

    def mappings() -> int:
        with open("/proc/self/maps") as file:
            return sum("topocomm-node" in line for line in file)

    gc.collect()  # communicators of other checks
    comm.Barrier()
    before = mappings()
    assert before >= 1
    for _ in range(1000 // world.size):
        child = comm.Split(0, world.rank)
        y = np.zeros(1)
        child.Allreduce(np.ones(1), y)
        assert y[0] == world.size
        assert mappings() == before + 1
        child.Free()
    assert mappings() == before
