"""What ``list --coverage`` says of each call, beside who makes it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from harness import check, wrap
from mpi4py import MPI

import topocomm
from topocomm.algorithms import TABLE
from topocomm.comm.coverage import Row, coverage
from topocomm.comm.methods import BLOCKING, OBJECTS, PREPARED


class Watched:
    """mpi4py's class as our modules see it; notes which of its calls they take."""

    def __init__(self, kind: Any, taken: list[str]) -> None:
        self.kind, self.taken = kind, taken

    def __getattr__(self, name: str) -> Any:
        self.taken.append(name)
        return getattr(self.kind, name)


def arguments(collective: str, p: int) -> tuple[Any, ...]:
    """Buffers that a collective takes on p ranks."""
    block, vector = np.ones(3), np.ones(3 * p)
    given: dict[str, tuple[Any, ...]] = {
        "barrier": (), "bcast": (block,), "gather": (block, vector), "gatherv": (block, vector),
        "scatter": (vector, block), "scatterv": (vector, block), "allgather": (block, vector),
        "allgatherv": (block, vector), "alltoall": (vector, vector.copy()), "alltoallv": (vector, vector.copy()),
        "alltoallw": (typed(vector, p), typed(vector.copy(), p)), "reduce_scatter": (vector, block),
        "reduce_scatter_block": (vector, block),
    }  # fmt: skip
    return given.get(collective, (block, block.copy()))


def typed(data: Any, blocks: int) -> list[Any]:
    """A buffer argument of an all-to-all with a type for each block of three numbers."""
    return [data, ([3] * blocks, [24 * i for i in range(blocks)]), [MPI.DOUBLE] * blocks]


def make(comm: Any, row: Row) -> None:
    """Make the call of a row to its end."""
    if row.form == OBJECTS:
        values = () if row.collective == "barrier" else (1.5,)
        getattr(comm, row.method)(*values)
        return
    request = getattr(comm, row.method)(*arguments(row.collective, comm.size))
    if row.form == PREPARED:
        request.Start()
    if row.form != BLOCKING:
        request.Wait()
    if row.form == PREPARED:
        request.Free()


def left_to_mpi4py(comm: Any, rows: list[Row]) -> set[str]:
    """Make the calls of ``rows``; return the methods of which our classes took mpi4py's."""
    modules = [m for name, m in sys.modules.items() if name.startswith("topocomm.comm.") and hasattr(m, "_MPI")]
    taken: list[str] = []
    kinds = [module._MPI for module in modules]  # type: ignore[attr-defined]
    try:
        for module in modules:
            module._MPI = Watched(module._MPI, taken)  # type: ignore[attr-defined]
        for row in rows:
            make(comm, row)
    finally:
        for module, kind in zip(modules, kinds, strict=True):
            module._MPI = kind  # type: ignore[attr-defined]
    return {*taken} & {row.method for row in rows}


@check(2)
def coverage_says_who_makes_a_call(world: MPI.Intracomm) -> None:
    p = world.size
    rows = coverage()
    ours = [row for row in rows if row.is_ours]
    named = {c: next(n for n in TABLE[c] if TABLE[c][n].can_run(p) and TABLE[c][n].whole >= (c == "reduce"))
             for c in TABLE}  # fmt: skip
    comm = wrap(world, algorithm=named)
    assert not left_to_mpi4py(comm, [row for row in ours if row.form != OBJECTS])
    native = wrap(world, algorithm="native")
    buffers = [row for row in ours if row.form == BLOCKING]
    assert left_to_mpi4py(native, buffers) == {row.method for row in buffers}
    shares = topocomm.Comm(world, algorithm={"allgather": "shared"})
    assert not left_to_mpi4py(shares, [row for row in ours if row.form == OBJECTS and row.method != "barrier"])
    ring = comm.Create_cart([p], periods=[True])
    for row in rows:
        assert row.is_ours or getattr(type(ring), row.method) is getattr(MPI.Topocomm, row.method), row
    ring.Free()
