"""A program that never calls MPI_Init: its communicator is made from a session. Run by test_sessions.py.

Arguments: ``flat`` or ``apart`` (artificial machine), or a placement file; ``automatic`` or ``named`` (algorithms).
"""

from __future__ import annotations

import sys

import mpi4py

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False

import numpy as np  # noqa: E402
from harness import raised  # noqa: E402
from mpi4py import MPI  # noqa: E402

import topocomm  # noqa: E402

NAMED = {"allreduce": "ring", "allgather": "ring", "bcast": "textbook_binomial", "alltoall": "scattered",
         "reduce_scatter_block": "ring", "barrier": "dissemination"}  # fmt: skip


def collectives(comm: topocomm.Comm) -> None:
    """Calls of every sort on ``comm``, against what they must give."""
    p, r = comm.size, comm.rank
    for n in (3, 900):
        comm.Allreduce(np.full(n, r + 1.0), total := np.zeros(n))
        assert (total == p * (p + 1) / 2).all()
        big = MPI.Op.Create(lambda x, y, _: np.maximum(np.frombuffer(x), np.frombuffer(y), out=np.frombuffer(y)), True)
        comm.Allreduce(np.full(n, float(r)), total, big)
        assert (total == p - 1).all()
        big.Free()
        comm.Bcast(data := np.arange(1.0 * n) if r == 0 else np.zeros(n))
        assert data[-1] == n - 1
        comm.Allgather(np.full(n, r), everyone := np.zeros((p, n), int))
        assert (everyone == np.arange(p)[:, None]).all()
        comm.Alltoall(np.full((p, n), r), everyone)
        assert (everyone == np.arange(p)[:, None]).all()
        comm.Reduce_scatter_block(np.ones((p, n)), part := np.zeros(n))
        assert (part == p).all()
    kind = MPI.DOUBLE.Create_vector(3, 1, 2).Create_resized(0, 48).Commit()
    comm.Bcast([spread := np.arange(300.0) if r == 0 else np.zeros(300), 50, kind])
    kind.Free()
    assert spread[298] == 298
    try:
        comm.Bcast(np.zeros((300, 3))[:, 1])
    except (BufferError, ValueError):
        comm.Barrier()
    else:
        raise AssertionError("memory that is not contiguous")


def puts(comm: topocomm.Comm) -> None:
    """A notified put around the ring."""
    with topocomm.Win.Allocate(8, 8, comm=comm) as win:
        win.Put_notify(np.array([comm.rank]), (comm.rank + 1) % comm.size, notify=2)
        win.Wait_notify(2)
        assert win.tomemory().view("i8")[0] == (comm.rank - 1) % comm.size
    assert "comm=" in str(raised(lambda: topocomm.Win.Allocate(8)))


def main() -> None:
    """Everything on a communicator of the session, and on what is derived from it."""
    where, named = sys.argv[1:]
    session = MPI.Session.Init()
    group = session.Create_group("mpi://WORLD")
    made = MPI.Intracomm.Create_from_group(group, "topocomm.tests")
    group.Free()
    rows = {
        "flat": topocomm.Topology.flat(made.size),
        "apart": topocomm.Topology(("node",), [[i // 2] for i in range(made.size)]),
    }
    comm = topocomm.Comm(made, topology=rows.get(where, where), algorithm=NAMED if named == "named" else None)
    collectives(comm)
    for child in (comm.Split(0, -comm.rank), comm.Dup(), comm.Split(comm.rank % 2)):
        collectives(child)
        child.Free()
    reducing = comm.explain("allreduce", 7200)
    combines = MPI.get_vendor()[0] != "Open MPI"
    assert combines or "Open MPI combines nothing" in reducing.why, reducing
    assert not (named == "named" and combines) or reducing.algorithm == "ring"
    error = raised(lambda: comm.Allreduce(np.ones(900), np.zeros(900), algorithm="ring"))
    assert error is None if combines else "MPI_Init" in str(error), error
    puts(comm)
    assert not MPI.Is_initialized()
    comm.Free()
    session.Finalize()
    sys.stdout.write("right\n")


if __name__ == "__main__":
    main()
