"""The collectives of the comparison: how to call each, and how its vector is shared. No MPI is started here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["COLLECTIVES", "Collective"]

Call = Callable[[Any, NDArray[Any], NDArray[Any]], None]
SMALLEST = 8
"""Bytes of an element that is reduced."""


@dataclass(frozen=True)
class Collective:
    """How to call one, and the share of its vector of n bytes that a send or receive buffer holds on p ranks."""

    call: Call
    shared_send: bool = False
    shared_receive: bool = False
    as_bytes: bool = False
    rooted: bool = False

    def fits(self, size: int, ranks: int) -> bool:
        """Return True if a vector of this many bytes can be shared evenly among the ranks."""
        shared = self.shared_send or self.shared_receive or self.as_bytes
        return size % (SMALLEST if not shared or self.rooted else SMALLEST * ranks) == 0


COLLECTIVES = {
    "allreduce": Collective(lambda comm, send, receive: comm.Allreduce(send, receive)),
    "allgather": Collective(lambda comm, send, receive: comm.Allgather(send, receive), shared_send=True, as_bytes=True),
    "reduce_scatter_block": Collective(
        lambda comm, send, receive: comm.Reduce_scatter_block(send, receive), shared_receive=True
    ),
    "alltoall": Collective(lambda comm, send, receive: comm.Alltoall(send, receive), as_bytes=True),
    "bcast": Collective(
        lambda comm, send, receive: comm.Bcast(receive if comm.rank else send, root=0), as_bytes=True, rooted=True
    ),
    "reduce": Collective(lambda comm, send, receive: comm.Reduce(send, receive, root=0), rooted=True),
}
