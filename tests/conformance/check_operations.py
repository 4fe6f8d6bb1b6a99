"""Operations: of users, in the order of ranks, and equal bits everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import check, communicators, raised, topologies, wrap
from mpi4py import MPI

import topocomm
from topocomm.algorithms import TABLE


def _product(a: Any, b: Any, _: MPI.Datatype) -> None:
    """b = a · b for 2 × 2 matrices modulo a prime: associative, exact, not commutative."""
    left, right = (np.frombuffer(m, "i8").reshape(-1, 2, 2) for m in (a, b))
    right[:] = (left @ right) % 9973


def _first(a: Any, b: Any, _: MPI.Datatype) -> None:
    np.frombuffer(b, "i8")[:] = np.frombuffer(a, "i8")


def _matrices(rank: int, n: int) -> Any:
    return np.random.default_rng(rank).integers(0, 9973, (n, 2, 2))


def _chain(size: int, n: int) -> Any:
    out = _matrices(0, n)
    for rank in range(1, size):
        out = (out @ _matrices(rank, n)) % 9973
    return out


def _ordered(comm: Any, op: MPI.Op, quad: MPI.Datatype, algorithm: Callable[[str], list[str | None]]) -> None:
    size, rank = comm.Get_size(), comm.Get_rank()
    mine, wanted = _matrices(rank, 2 * size), _chain(size, 2 * size)
    for name in algorithm("allreduce"):
        out = np.zeros_like(mine)
        comm.Allreduce([mine, quad], [out, quad], op, algorithm=name)
        assert (out == wanted).all(), f"allreduce {name}"
        out = mine.copy()
        comm.Allreduce(MPI.IN_PLACE, [out, quad], op, algorithm=name)
        assert (out == wanted).all(), f"allreduce {name} in place"
    for collective, before in (("scan", rank + 1), ("exscan", rank)):
        sums = _chain(before, 2 * size)
        for name in algorithm(collective):
            for out, first in ((np.zeros_like(mine), [mine, quad]), (mine.copy(), MPI.IN_PLACE)):
                getattr(comm, collective.capitalize())(first, [out, quad], op, algorithm=name)
                assert not before or (out == sums).all(), f"{collective} {name}"
    for name in algorithm("reduce"):
        for root in {0, size // 2, size - 1}:
            out = np.zeros_like(mine)
            comm.Reduce([mine, quad], [out, quad] if rank == root else None, op, root, algorithm=name)
            assert rank != root or (out == wanted).all(), f"reduce {name}, root {root}"
    for name in algorithm("reduce_scatter_block"):
        part = np.zeros((2, 2, 2), "i8")
        comm.Reduce_scatter_block([mine, quad], [part, quad], op, algorithm=name)
        assert (part == wanted[2 * rank : 2 * rank + 2]).all(), f"reduce_scatter_block {name}"
    for name in algorithm("reduce_scatter"):
        counts = [1 + (r == 0) * size for r in range(size)]
        at = sum(counts[:rank])
        part = np.zeros((counts[rank], 2, 2), "i8")
        comm.Reduce_scatter([mine, quad], [part, quad], counts, op, algorithm=name)
        assert (part == wanted[at : at + counts[rank]]).all(), f"reduce_scatter {name}"


@check()
def operands_stand_in_the_order_of_ranks(world: MPI.Intracomm) -> None:
    quad = MPI.INT64_T.Create_contiguous(4).Commit()
    op = topocomm.elementwise(MPI.Op.Create(_product))
    named = {c: [None, *(n for n, a in TABLE[c].items() if a.in_order and n != "recursive_doubling")] for c in TABLE}
    for where in ("pairs", "cyclic", "unequal"):
        _ordered(wrap(world, where), op, quad, lambda c: list(named[c]))
    for _, comm in communicators(wrap(world, "random3")):
        _ordered(comm, op, quad, lambda c: [None])
    op.Free()
    quad.Free()


@check(3)
def an_algorithm_out_of_order_is_refused_everywhere(world: MPI.Intracomm) -> None:
    op = topocomm.elementwise(MPI.Op.Create(_first))
    comm = wrap(world)
    out = np.zeros(4, "i8")
    error = raised(lambda: comm.Allreduce(np.arange(4), out, op, algorithm="ring"))
    assert isinstance(error, topocomm.AlgorithmError), error
    comm.Allreduce(np.arange(4) + 10 * world.rank, out, op)
    assert out.tolist() == [0, 1, 2, 3], "the first rank's operand comes first"
    op.Free()


@check()
def a_commutative_user_operation(world: MPI.Intracomm) -> None:
    def largest(a: Any, b: Any, _: MPI.Datatype) -> None:
        np.maximum(np.frombuffer(a), np.frombuffer(b), out=np.frombuffer(b))

    op = topocomm.elementwise(MPI.Op.Create(largest, commute=True))
    for where in topologies(world.size):
        comm = wrap(world, where)
        for name in TABLE["allreduce"]:
            out = np.zeros(3)
            comm.Allreduce(np.array([world.rank, -world.rank, 5.0]), out, op, algorithm=name)
            assert out.tolist() == [world.size - 1, 0, 5], name
    op.Free()


def _halves(a: Any, b: Any, _: MPI.Datatype) -> None:
    """The first half gets the smaller elements, the second half the larger ones: right on whole vectors only."""
    x, y = np.frombuffer(a), np.frombuffer(b)
    half = len(x) // 2
    y[:half] = np.minimum(x[:half], y[:half])
    y[half:] = np.maximum(x[half:], y[half:])


def _halves_are_right(comm: Any, op: MPI.Op, n: int, algorithm: str | None, collective: str) -> None:
    p, rank, mine = comm.size, comm.rank, np.full(n, float(comm.rank))
    wanted = np.repeat([0.0, p - 1.0], n // 2)
    if collective == "allreduce":
        comm.Allreduce(mine, out := np.empty(n), op, algorithm=algorithm)
    elif collective == "reduce":
        comm.Reduce(mine, out := np.zeros(n), op, p - 1, algorithm=algorithm)
        wanted = wanted if rank == p - 1 else np.zeros(n)  # elsewhere it is not touched
    else:
        comm.Reduce_scatter_block(mine, out := np.empty(n // p), op, algorithm=algorithm)
        wanted = wanted[rank * (n // p) : (rank + 1) * (n // p)]
    assert (out == wanted).all(), f"{collective} of {n} by {algorithm}"


@check(2)
def an_operation_of_the_program_sees_whole_vectors(world: MPI.Intracomm) -> None:
    """At every size with the automatic choice, with every algorithm that says it never cuts, commutative or not."""
    p = world.size
    for commute in (True, False):
        op = MPI.Op.Create(_halves, commute=commute)
        for where in ("pairs", "cyclic", "random3"):
            comm = wrap(world, where)
            for collective in ("allreduce", "reduce", "reduce_scatter_block"):
                whole = [name for name, a in TABLE[collective].items() if a.whole and (commute or a.in_order)]
                names = [n for n in whole if n != "recursive_doubling" or comm.machine_topology.is_sorted]
                for name in names:
                    _halves_are_right(comm, op, 6 * p, name, collective)
            for n in (1100, 1 << 14, 1 << 17) if where == "cyclic" and comm.machine_topology.has_distance else ():
                _halves_are_right(comm, op, n, None, "allreduce")
                _halves_are_right(comm, op, n, None, "reduce")
        op.Free()


@check(3)
def an_algorithm_that_cuts_is_refused_an_operation_of_the_program(world: MPI.Intracomm) -> None:
    """For the call that names it; a name said for all calls is a preference, and a declared operation may be cut."""
    op = MPI.Op.Create(_halves, commute=True)
    comm = wrap(world, algorithm={"allreduce": "ring", "reduce": "native"})
    out = np.zeros(8)
    for name in (n for n, a in TABLE["allreduce"].items() if not a.whole):
        error = raised(lambda: comm.Allreduce(np.ones(8), out, op, algorithm=name))
        assert isinstance(error, topocomm.AlgorithmError), f"{name}: {error!r}"
        assert "topocomm.elementwise" in str(error)
    _halves_are_right(comm, op, 4096, None, "allreduce")
    done = comm.decisions[-1]
    assert done.algorithm != "ring"
    assert "ring, named by communicator argument, cannot serve this call" in done.why
    assert comm.explain("allreduce", 32768, op=op).algorithm == done.algorithm
    comm.Allreduce(np.ones(8), out, topocomm.elementwise(op))
    assert comm.decisions[-1].algorithm == "ring"
    assert comm.explain("allreduce", 64, op=op).algorithm == "ring"
    op.Free()
    other = MPI.Op.Create(_halves, commute=True)  # may have the same handle
    _halves_are_right(comm, other, 4096, None, "allreduce")
    other.Free()


@check(2)
def bits_are_equal_on_all_ranks(world: MPI.Intracomm) -> None:
    """Also where the operation does not commute in its last bits, or has NaN and two zeros to choose from."""
    rng = np.random.default_rng(world.rank)
    odd = np.where(rng.random(64) < 0.3, np.nan, rng.choice([-0.0, 0.0, 1.0, np.inf, -np.inf], 64))
    odd[np.isnan(odd)] *= rng.choice([-1, 1])
    sums = rng.standard_normal(64) * 10.0 ** rng.integers(-10, 10, 64)
    tried = ((odd, MPI.MAX), (odd, MPI.MIN), (odd, MPI.SUM), (sums, MPI.SUM), (sums, MPI.PROD))
    for where in ("pairs", "cyclic", "unequal", "random3"):
        comm = wrap(world, where)
        for name in TABLE["allreduce"]:
            results = np.zeros((len(tried), 64))
            for out, (data, op) in zip(results, tried, strict=True):
                comm.Allreduce(data, out, op, algorithm=name)
            assert len(set(world.allgather(results.tobytes()))) == 1, f"{name} on {where}"
