"""Calls that the ranks do not make alike: every rank raises, none waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import check, raised, wrap
from mpi4py import MPI

import topocomm


@check(3)
def ranks_that_call_differently_all_raise(world: MPI.Intracomm) -> None:
    odd, p = world.rank == world.size - 1, world.size
    calls: dict[str, Callable[[Any], object]] = {
        "count": lambda c: c.Allreduce(np.zeros(3 + odd), np.zeros(3 + odd)),
        "bytes": lambda c: c.Bcast(np.zeros(3 + odd)),
        "block": lambda c: c.Allgather(np.zeros(3 + odd), np.zeros((3 + odd) * p)),
        "type": lambda c: c.Allreduce(np.zeros(3, "i8" if odd else "f8"), np.zeros(3, "i8" if odd else "f8")),
        "operation": lambda c: c.Allreduce(np.zeros(3), np.zeros(3), MPI.MAX if odd else MPI.SUM),
        "root": lambda c: c.Reduce(np.zeros(3), np.zeros(3), root=int(odd)),
        "root of a bcast": lambda c: c.Bcast(np.zeros(3), root=int(odd)),
        "root of a gather": lambda c: c.Gather(np.zeros(3), np.zeros(3 * p), root=int(odd)),
        "algorithm": lambda c: c.Allreduce(np.zeros(3), np.zeros(3), algorithm="ring" if odd else "rabenseifner"),
        "native": lambda c: c.Allreduce(np.zeros(3), np.zeros(3), algorithm="ring" if odd else "native"),
        "collective": lambda c: c.Barrier() if odd else c.Bcast(np.zeros(3)),
        "counts": lambda c: c.Reduce_scatter(np.zeros(2 * p), np.zeros(2), [2] * p)
        if not odd else c.Reduce_scatter(np.zeros(2 * p + 1), np.zeros(2), [3] + [2] * (p - 1)),
    }  # fmt: skip
    for name, call in calls.items():
        comm = wrap(world.Dup())
        error = raised(lambda: call(comm))
        assert isinstance(error, topocomm.Error), f"{name}: {error!r}"
        assert "rank" in str(error), error
        comm.Bcast(good := np.full(4, world.rank * 1.0), root=1)
        assert good[0] == 1, "the communicator is of use afterwards"
        comm.Free()


@check(3)
def a_bad_buffer_on_one_rank_is_known_to_all(world: MPI.Intracomm) -> None:
    odd, p = world.rank == world.size - 1, world.size
    cut = np.zeros(9)[::2] if odd else np.zeros(5)
    calls: dict[str, tuple[type[BaseException], Callable[[Any], object]]] = {
        "short": (ValueError, lambda c: c.Allgather(np.zeros(3), np.zeros(3 * p - odd))),
        "short count": (ValueError, lambda c: c.Allgather(np.zeros(3), [np.zeros(3 * p - odd), 3, MPI.DOUBLE])),
        "unequal": (ValueError, lambda c: c.Allreduce(np.zeros(3), np.zeros(3 + odd))),
        "not contiguous": (Exception, lambda c: c.Allreduce(cut, np.zeros(5))),
        "no buffer": (TypeError, lambda c: c.Bcast(3 if odd else np.zeros(3))),
        "no root": (MPI.Exception, lambda c: c.Bcast(np.zeros(3), root=p if odd else 0)),
        "read-only": (Exception, lambda c: c.Bcast(bytes(3) if odd else bytearray(3))),
        "scatter": (topocomm.Error, lambda c: c.Scatter(np.zeros(3 * p), np.zeros(3 - odd))),
        "counts": (ValueError, lambda c: c.Reduce_scatter(np.zeros(3 * p), np.zeros(3), [3] * (p + odd))),
        "counts of all": (Exception, lambda c: c.Reduce_scatter(np.zeros(3 * p), b"xx" if odd else np.zeros(3))),
        "reduce": (ValueError, lambda c: c.Reduce(np.zeros(3), np.zeros(3 + odd), root=p - 1)),
    }
    for name, (kind, call) in calls.items():
        comm = wrap(world.Dup())
        error = raised(lambda: call(comm))
        assert isinstance(error, kind if odd else (topocomm.Error, kind)), f"{name}: {error!r}"
        comm.Bcast(good := np.full(4, world.rank * 1.0), root=1)
        assert good[0] == 1, "the communicator is of use afterwards"
        comm.Free()
