"""Ways to move data: each is a channel that sends counted pieces to ranks and receives as many from others, repeatedly.

A channel has ``source``, a flat array that holds the pieces for rank 0, 1, … one after the other; ``start()`` sends it,
``wait()`` returns the flat array of the pieces that came, which may be read until the next ``start()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm import rma

Counts = Sequence[int]


class Channel:
    """What all channels share: buffers, counts and displacements, in elements of one type."""

    def __init__(self, comm: Any, sends: Counts, receives: Counts, dtype: Any) -> None:
        self.comm, self.sends, self.receives = comm, list(sends), list(receives)
        self.source = np.zeros(sum(sends), dtype)
        self.target = np.zeros(sum(receives), dtype)

    def _pieces(self, array: np.ndarray, counts: Counts) -> Iterator[tuple[int, np.ndarray]]:
        """Yield rank and piece where there is one."""
        ends = np.cumsum(counts)
        for rank, (count, end) in enumerate(zip(counts, ends, strict=True)):
            if count:
                yield rank, array[end - count : end]

    def start(self) -> None:
        """Begin to send the source."""

    def wait(self) -> np.ndarray:
        """Return what has come."""
        raise NotImplementedError


class Blocking(Channel):
    """``Alltoallv``, of the communicator's library."""

    def wait(self) -> np.ndarray:
        self.comm.Alltoallv([self.source, self.sends], [self.target, self.receives])
        return self.target


class Collective(Channel):
    """``Ialltoallv``: work may be done meanwhile."""

    def start(self) -> None:
        self.request = self.comm.Ialltoallv([self.source, self.sends], [self.target, self.receives])

    def wait(self) -> np.ndarray:
        self.request.Wait()
        return self.target


class Messages(Channel):
    """``Irecv`` and ``Isend`` with every partner."""

    def start(self) -> None:
        self.requests = [self.comm.Irecv(piece, rank) for rank, piece in self._pieces(self.target, self.receives)]
        self.requests += [self.comm.Isend(piece, rank) for rank, piece in self._pieces(self.source, self.sends)]

    def wait(self) -> np.ndarray:
        MPI.Request.Waitall(self.requests)
        return self.target


class Persistent(Channel):
    """The same messages, set up once."""

    def __init__(self, comm: Any, sends: Counts, receives: Counts, dtype: Any) -> None:
        super().__init__(comm, sends, receives, dtype)
        self.requests = [comm.Recv_init(piece, rank) for rank, piece in self._pieces(self.target, receives)]
        self.requests += [comm.Send_init(piece, rank) for rank, piece in self._pieces(self.source, sends)]

    def start(self) -> None:
        MPI.Prequest.Startall(self.requests)

    def wait(self) -> np.ndarray:
        MPI.Request.Waitall(self.requests)
        return self.target


class Window(Channel):
    """MPI's one-sided puts into a window of the receiver's; a subclass says how they are synchronised."""

    def __init__(self, comm: Any, sends: Counts, receives: Counts, dtype: Any) -> None:
        super().__init__(comm, sends, receives, dtype)
        size = self.target.itemsize
        self.window = MPI.Win.Allocate(self.target.nbytes, size, comm=comm)
        self.target = np.frombuffer(self.window.tomemory(), dtype)
        starts = [int(end) - count for end, count in zip(np.cumsum(receives), receives, strict=True)]
        self.places = comm.alltoall(starts)
        self.to = [rank for rank, count in enumerate(sends) if count]
        self.origins = [rank for rank, count in enumerate(receives) if count]

    def _put(self) -> None:
        for rank, piece in self._pieces(self.source, self.sends):
            self.window.Put(piece, rank, (self.places[rank], piece.size))


class Pscw(Window):
    """Post, start, complete, wait."""

    def __init__(self, comm: Any, sends: Counts, receives: Counts, dtype: Any) -> None:
        super().__init__(comm, sends, receives, dtype)
        whole = comm.Get_group()
        self.writers, self.written = whole.Incl(self.origins), whole.Incl(self.to)

    def start(self) -> None:
        self.window.Post(self.writers)
        self.window.Start(self.written)
        self._put()

    def wait(self) -> np.ndarray:
        self.window.Complete()
        self.window.Wait()
        return self.target


class Flush(Window):
    """Locked once; an empty message says that a target is free, a flush and another one that data has come."""

    def __init__(self, comm: Any, sends: Counts, receives: Counts, dtype: Any) -> None:
        super().__init__(comm, sends, receives, dtype)
        self.window.Lock_all()
        self.empty = np.zeros(0, np.uint8)

    def _tell(self, ranks: Sequence[int], others: Sequence[int], tag: int) -> None:
        requests = [self.comm.Isend(self.empty, rank, tag) for rank in ranks]
        for rank in others:
            self.comm.Recv(self.empty, rank, tag)
        MPI.Request.Waitall(requests)

    def start(self) -> None:
        self._tell(self.origins, self.to, 1)
        self._put()

    def wait(self) -> np.ndarray:
        self.window.Flush_all()
        self._tell(self.to, self.origins, 2)
        self.window.Sync()
        return self.target


class Notified(Channel):
    """Puts that notify: no message before, none after. `comm` is a context of the same ranks."""

    def __init__(self, comm: rma.Context, sends: Counts, receives: Counts, dtype: Any) -> None:
        super().__init__(comm, sends, receives, dtype)
        self.exchange = rma.alltoallv(comm, self.source, sends, receives)

    def start(self) -> None:
        self.exchange.start()

    def wait(self) -> np.ndarray:
        return self.exchange.wait()


Make = Callable[[Any, Counts, Counts, Any], Channel]
