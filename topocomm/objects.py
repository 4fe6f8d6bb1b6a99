"""Python objects over all ranks of an mpi4py communicator, by calls on buffers.

mpi4py's own ``bcast``, ``allgather`` and ``alltoall`` keep a lock as an attribute of ``MPI.COMM_SELF``, which a program
without ``MPI_Init`` (Sessions) does not have; under MPICH they abort it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from topocomm.arrays import Bytes, IntArray

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["allgather", "alltoall", "bcast", "gather", "sendrecv"]

T = TypeVar("T")


def _packed(value: object) -> tuple[Bytes, IntArray]:
    """Return the bytes of a value, and their number as an array."""
    data = np.frombuffer(pickle.dumps(value), np.uint8)
    return data, np.array([len(data)], np.int64)


def _unpacked(everything: Bytes, sizes: IntArray) -> list[Any]:
    """Return the values whose bytes follow each other."""
    ends = np.cumsum(sizes)
    return [pickle.loads(everything[end - size : end].tobytes()) for size, end in zip(sizes, ends, strict=True)]


def bcast(comm: MPI.Comm, value: T, root: int = 0) -> T:
    """Return the value of rank ``root``, broadcast to all. Collective; needs a value that can be pickled."""
    at_root = comm.Get_rank() == root
    data = np.frombuffer(pickle.dumps(value), np.uint8) if at_root else None
    size = np.array([0 if data is None else len(data)], np.int64)
    comm.Bcast(size, root)
    buffer = np.empty(int(size[0]), np.uint8) if data is None else data.copy()
    comm.Bcast(buffer, root)
    found: T = value if at_root else pickle.loads(buffer.tobytes())
    return found


def allgather(comm: MPI.Comm, value: T) -> list[T]:
    """Return the values of all ranks, by rank. Collective; needs values that can be pickled."""
    (data, size), sizes = _packed(value), np.empty(comm.Get_size(), np.int64)
    comm.Allgather(size, sizes)
    everything = np.empty(int(sizes.sum()), np.uint8)
    comm.Allgatherv(data, [everything, sizes.tolist()])
    return _unpacked(everything, sizes)


def gather(comm: MPI.Comm, value: T) -> list[T] | None:
    """Return the values of all ranks, by rank, on rank 0; None elsewhere. Collective; needs values that can be
    pickled.
    """
    (data, size), at_root = _packed(value), comm.Get_rank() == 0
    sizes = np.empty(comm.Get_size(), np.int64) if at_root else None
    comm.Gather(size, sizes)
    if sizes is None:
        comm.Gatherv(data, None)
        return None
    everything = np.empty(int(sizes.sum()), np.uint8)
    comm.Gatherv(data, [everything, sizes.tolist()])
    return _unpacked(everything, sizes)


def sendrecv(comm: MPI.Comm, value: T, dest: int, source: int) -> T:
    """Send a value to rank ``dest`` and return the one that rank ``source`` sends; needs values that can be pickled."""
    (data, size), coming = _packed(value), np.empty(1, np.int64)
    comm.Sendrecv(size, dest, recvbuf=coming, source=source)
    found = np.empty(int(coming[0]), np.uint8)
    comm.Sendrecv(data, dest, recvbuf=found, source=source)
    return _unpacked(found, coming)[0]  # type: ignore[no-any-return]


def alltoall(comm: MPI.Comm, values: Sequence[T]) -> list[T]:
    """Return what every rank has for this one, by rank; ``values`` are for every rank. Collective.

    All values travel to all ranks: for the few small ones of setting something up.
    """
    table: list[Any] = allgather(comm, [pickle.dumps(value) for value in values])
    return [pickle.loads(row[comm.Get_rank()]) for row in table]
