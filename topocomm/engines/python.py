"""Engine ``python``: programs walked in Python, messages sent and received by mpi4py on a private communicator."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes
from topocomm.engines.carrier import Carrier
from topocomm.engines.walk import Combine, Loaded, Regions, Sized, walk
from topocomm.errors import Error
from topocomm.plan.check import check
from topocomm.plan.program import Program

__all__ = ["LARGEST", "Carrier", "Run", "load", "memory_of", "start"]

LARGEST = 1 << 30
"""Bytes of the largest message, and elements reduced by one call; more goes in pieces, because an MPI count may be an
int of 32 bits."""


def load(program: Program) -> Loaded:
    """Check and prepare a program; it serves any number of runs, sizes and communicators.

    Raises ProgramError if it reaches outside its memory, misnumbers a message, or leaves one behind.
    """
    check(program)
    return Loaded(program, fused=True)


class _Port:
    """Messages of one run: all with one tag; those between two ranks match in order."""

    def __init__(self, carrier: Carrier) -> None:
        self.comm, self.ranks, self.tag = carrier.comm, carrier.ranks, carrier.tag
        self.blocking = True
        self._status = MPI.Status()
        self._sending: dict[tuple[int, int], list[MPI.Request]] = {}
        self._coming: dict[tuple[int, int], list[tuple[MPI.Request, int]]] = {}

    def send(self, peer: int, number: int, data: Bytes) -> None:
        self._sending[peer, number] = [self.comm.Isend(piece, self.ranks[peer], self.tag) for piece in _pieces(data)]

    def expect(self, peer: int, number: int, data: Bytes) -> None:
        source, pieces = self.ranks[peer], _pieces(data)
        self._coming[peer, number] = [(self.comm.Irecv(piece, source, self.tag), len(piece)) for piece in pieces]

    def arrived(self, peer: int, number: int) -> bool:
        coming = self._coming.get((peer, number))
        if coming is None:
            return True
        while coming:
            request, needed = coming[0]
            if not self._done(request):
                return False
            self._check_length(peer, needed)
            del coming[0]
        del self._coming[peer, number]
        return True

    def _check_length(self, peer: int, needed: int) -> None:
        found = self._status.count
        if found != needed:
            me = list(self.ranks).index(self.comm.rank)
            raise Error(
                f"rank {me}: a message from rank {peer} has {found} bytes, needs {needed}; "
                "the ranks called the collective with different counts or types"
            )

    def sent(self, peer: int, number: int) -> bool:
        requests = self._sending.get((peer, number))
        while requests:
            if not self._done(requests[-1]):
                return False
            requests.pop()
        self._sending.pop((peer, number), None)
        return True

    def _done(self, request: MPI.Request) -> bool:
        if self.blocking:
            request.Wait(self._status)
            return True
        return request.Test(self._status)

    def exchange(self, to: int, number: int, data: Bytes, source: int, expected: int, into: Bytes) -> bool:
        if not self.blocking or data.size > LARGEST or into.size > LARGEST:
            return False
        status, ranks = self._status, self.ranks
        self.comm.Sendrecv(data, ranks[to], self.tag, into, ranks[source], self.tag, status)
        if status.count != into.size:
            self._check_length(source, into.size)
        return True

    def fence(self) -> bool:
        if not (self._coming or self._sending):
            return True
        arrived = all(self.arrived(*key) for key in list(self._coming))
        return arrived and all(self.sent(*key) for key in list(self._sending))


def _pieces(data: Bytes) -> list[Bytes]:
    if len(data) <= LARGEST:
        return [data]
    return [data[at : at + LARGEST] for at in range(0, len(data), LARGEST)]


def _reduction(op: MPI.Op, datatype: MPI.Datatype, itemsize: int) -> Combine:
    """Return the reduction on bytes of elements of ``itemsize`` bytes, by the MPI library."""

    def combine(landed: Bytes, held: Bytes, before: bool) -> None:
        most = LARGEST * itemsize
        for first in range(0, held.size, most):
            a, b = (landed, held) if held.size <= most else (landed[first : first + most], held[first : first + most])
            count = b.size // itemsize
            if before:
                op.Reduce_local([a, count, datatype], [b, count, datatype])
            else:
                op.Reduce_local([b, count, datatype], [a, count, datatype])
                b[:] = a

    return combine


def memory_of(sized: Sized) -> tuple[Bytes, Bytes]:
    """Return new scratch memory, and memory of its own, for a run."""
    return np.empty(sized.scratch_bytes, np.uint8), np.empty(sized.own_bytes, np.uint8)


class Run:
    """A program under way."""

    def __init__(self, steps: Generator[None, None, None], port: _Port) -> None:
        self._steps, self._port = steps, port
        self.done = False

    def test(self) -> bool:
        """Move on without waiting; tell whether everything is done."""
        self._port.blocking = False
        self.done = self.done or next(self._steps, True) is True
        return self.done

    def wait(self) -> None:
        """Finish. Waits in the MPI library, which moves other messages on meanwhile."""
        self._port.blocking = True
        for _ in self._steps:
            pass
        self.done = True


def start(
    carrier: Carrier,
    sized: Sized,
    regions: Regions,
    op: MPI.Op = MPI.OP_NULL,
    datatype: MPI.Datatype = MPI.BYTE,
    itemsize: int = 1,
) -> Run:
    """Start a program.

    Parameters
    ----------
    carrier
        Its communicator carries nothing else with its tag.
    regions
        Send buffer, receive buffer, scratch and the run's own memory, as bytes; the last two of at least
        ``sized.scratch_bytes`` and ``sized.own_bytes``.
    op, datatype, itemsize
        Of a reduction: elements of ``itemsize`` bytes each are ``datatype``.

    Raises
    ------
    Error
        If a message has not the length that the program expects: from :meth:`Run.test` and :meth:`Run.wait`.
    mpi4py.MPI.Exception
        Whatever MPI raises.
    """
    port = _Port(carrier)
    steps = walk(sized, regions, port, _reduction(op, datatype, itemsize))
    return Run(steps, port)
