"""Messages between all pairs of ranks, of any size: each rank knows what it sends and what it receives, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from topocomm.engines.carrier import Carrier
from topocomm.topology import Topology

__all__ = ["Block", "exchange"]

_TAG = 3
"""Tag of the messages between ranks, counted from the carrier's; messages of a rank to itself have it, too."""
_AT_ONCE = 32
"""Pairs of messages of a rank that are under way at one time."""


class Block(NamedTuple):
    """Elements at an address."""

    address: int
    elements: int
    datatype: MPI.Datatype

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return self.elements * int(self.datatype.Get_size())

    @property
    def spec(self) -> list[Any]:
        """The buffer argument for mpi4py."""
        if self.address == 0:
            return [MPI.BOTTOM, self.elements, self.datatype]
        room = max(self.elements * int(self.datatype.Get_extent()[1]), 0)
        return [MPI.buffer.fromaddress(self.address, room), self.elements, self.datatype]

    def packed(self, comm: MPI.Intracomm) -> Any:
        """Return a copy of the elements as a buffer argument."""
        data = np.empty(self.datatype.Pack_size(self.elements, comm), np.uint8)
        end = self.datatype.Pack(self.spec[0], data, 0, comm) if self.nbytes else 0
        return [data, end, MPI.PACKED]


def exchange(
    carrier: Carrier, topology: Topology, rank: int, sends: Sequence[Block] | None, recvs: Sequence[Block]
) -> None:
    """Send a block to every rank and receive one of every rank; ``sends`` is None for a call in place.

    Partners follow each other in the order of the topology, so that no two ranks of a place begin with the same one.
    """
    size = topology.size
    comm, ranks, tag = carrier.comm, carrier.ranks, carrier.tag + _TAG
    order, place = topology.order, int(topology.virtual[rank])
    leaving: list[Any] = [
        None if not block.nbytes else block.packed(comm) if sends is None else block.spec
        for block in (recvs if sends is None else sends)
    ]
    if sends is not None and leaving[rank] is not None and sends[rank] != recvs[rank]:
        comm.Sendrecv(leaving[rank], ranks[rank], tag, recvs[rank].spec, ranks[rank], tag)
    for first in range(1, size, _AT_ONCE):
        requests = []
        for step in range(first, min(first + _AT_ONCE, size)):
            source, target = int(order[(place - step) % size]), int(order[(place + step) % size])
            if recvs[source].nbytes:
                requests.append(comm.Irecv(recvs[source].spec, ranks[source], tag))
            if leaving[target] is not None:
                requests.append(comm.Isend(leaving[target], ranks[target], tag))
        MPI.Request.Waitall(requests)
