"""Structures of C that hold plain bytes and are exchanged among ranks."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

__all__ = ["gathered"]


def gathered(comm: MPI.Intracomm, mine: Any, kind: str) -> Any:
    """Return the plain bytes that every rank gives as an array in C of this type. Collective."""
    from topocomm.rma._core import ffi  # native calls need none of it

    everybody = ffi.new(kind, comm.Get_size())
    MPI.Intracomm.Allgather(comm, [ffi.buffer(mine), MPI.BYTE], [ffi.buffer(everybody), MPI.BYTE])
    return everybody
