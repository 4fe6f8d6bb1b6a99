"""Communicators of programs that never call MPI_Init (Sessions)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from topocomm import objects

__all__ = ["has_init", "mpi_comm", "usable"]


class _ByBuffers:
    """An mpi4py communicator whose exchanges of objects are calls on buffers; everything else is its own."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def allgather(self, value: Any) -> list[Any]:
        return objects.allgather(self._comm, value)

    def alltoall(self, values: Sequence[Any]) -> list[Any]:
        return objects.alltoall(self._comm, values)


def has_init() -> bool:
    """Return False if the program uses mpi4py and MPI_Init was not called."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is None or bool(mpi.Is_initialized())


def usable(comm: Any) -> Any:
    """Return ``comm``, or what stands for it where MPI_Init was not called."""
    return comm if has_init() or not isinstance(comm, sys.modules["mpi4py.MPI"].Comm) else _ByBuffers(comm)


def mpi_comm(comm: Any) -> Any:
    """Return the communicator of mpi4py's that ``comm`` is, or stands for; None if it is none."""
    mpi = sys.modules.get("mpi4py.MPI")
    found = comm._comm if isinstance(comm, _ByBuffers) else comm
    return found if mpi is not None and isinstance(found, mpi.Comm) else None
