"""Memory that only the MPI library can read, taken and filled through it: a message of a rank to itself.

``MPI.BOTTOM`` with a datatype of absolute addresses, memory of a device, elements that overlap: whatever a datatype
describes, MPI packs it into a message. What arrives are bytes in memory of ours, so that no rank needs the others'
consent for an argument of its own.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes

__all__ = ["Caller", "error_of", "fill", "take"]

_TAG = 3
"""Of messages to oneself on the private communicator."""


class Caller(Protocol):
    """The rank that makes a call."""

    rank: int
    size: int
    comm: MPI.Intracomm

    @property
    def private(self) -> MPI.Intracomm:
        """The private communicator; collective when first asked for."""


def error_of(caller: Caller, spec: Any, writable: bool) -> Exception | None:
    """The exception that mpi4py raises for a buffer argument; None if it takes it. Sends nothing."""
    start = caller.comm.Recv_init if writable else caller.comm.Send_init
    try:
        start(spec, caller.rank).Free()  # to PROC_NULL mpi4py would not read it
    except Exception as e:
        return e
    return None


def take(caller: Caller, spec: Any) -> Bytes:
    """The bytes that a buffer argument describes, without gaps, in memory of ours."""
    status = MPI.Status()
    sending = caller.private.Isend(spec, caller.rank, _TAG)
    message = caller.private.Mprobe(caller.rank, _TAG, status)
    data = np.empty(status.count, np.uint8)
    message.Recv([data, len(data), MPI.PACKED])
    sending.Wait()
    return data


def fill(caller: Caller, spec: Any, data: Bytes) -> None:
    """Bring bytes that :func:`take` gave, or others as long, into the memory that a buffer argument describes."""
    sending = caller.private.Isend([data, len(data), MPI.PACKED], caller.rank, _TAG)
    caller.private.Recv(spec, caller.rank, _TAG)
    sending.Wait()
