"""Memory that only the MPI library can read, taken and filled through it: a message of a rank to itself.

``MPI.BOTTOM`` with a datatype of absolute addresses, memory of a device, elements that overlap: whatever a datatype
describes, MPI packs it into a message. What arrives are bytes in memory of ours, so that no rank needs the others'
consent for an argument of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes

if TYPE_CHECKING:
    from topocomm.engines.carrier import Carrier

__all__ = ["Caller", "error_of", "fill", "take"]

_TAG = 3
"""Tag of messages to oneself, counted from the carrier's."""


class Caller(Protocol):
    """The rank that makes a call."""

    rank: int
    size: int
    comm: MPI.Intracomm

    @property
    def carrier(self) -> Carrier:
        """What carries private messages; collective when first asked for."""


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
    with _to_itself(caller) as (comm, rank, tag):
        sending = comm.Isend(spec, rank, tag)
        message = comm.Mprobe(rank, tag, status)
        data = np.empty(status.count, np.uint8)
        message.Recv([data, len(data), MPI.PACKED])
        sending.Wait()
    return data


def fill(caller: Caller, spec: Any, data: Bytes) -> None:
    """Bring bytes that :func:`take` gave, or others as long, into the memory that a buffer argument describes."""
    with _to_itself(caller) as (comm, rank, tag):
        sending = comm.Isend([data, len(data), MPI.PACKED], rank, tag)
        comm.Recv(spec, rank, tag)
        sending.Wait()


@contextmanager
def _to_itself(caller: Caller) -> Iterator[tuple[MPI.Intracomm, int, int]]:
    """Communicator, rank and tag of a message of the caller to itself."""
    if caller.size > 1:
        carrier = caller.carrier
        yield carrier.comm, carrier.ranks[caller.rank], carrier.tag + _TAG
        return
    # one rank has no private communicator, and the program's receives must not take the message
    own = MPI.Intracomm(caller.comm.Split())
    try:
        yield own, 0, _TAG
    finally:
        own.Free()
