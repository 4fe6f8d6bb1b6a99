"""The ways to bring data from one of two ranks to the other that the benchmarks of puts compare.

Each way moves a window of messages of one size with ``send`` and ``receive``, or both ways at once with ``both``, and
checks what arrived by a stamp in its first byte.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np

from topocomm import rma

__all__ = ["Active", "Fence", "Flag", "Notified", "TwoSided", "Way", "source", "wrong"]


class Way(Protocol):
    """A way to bring data to the other rank, as the benchmarks use it; ``stamp`` marks the data, modulo 256."""

    name: str

    def send(self, stamp: int) -> None: ...
    def receive(self, stamp: int) -> None: ...
    def finish(self) -> None: ...

    def both(self, stamp: int) -> None:
        """Move a window in both directions: send it, then receive the peer's."""
        self.send(stamp)
        self.receive(stamp)


def source(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Make data to send; written, as untouched zeros would all be read from one page."""
    return np.full(size, 170, np.uint8)


def wrong(name: str) -> None:
    """End both ranks: a benchmark that moves wrong data has no result."""
    from mpi4py import MPI

    print(f"{name}: wrong data", file=sys.stderr, flush=True)
    MPI.COMM_WORLD.Abort(1)


class Notified(Way):
    """Notified puts of one size from each of two ranks to the other, a window of them at a time.

    One buffer is enough where each window is answered before the next one comes, two where both sides send at once.
    """

    name = "notified"

    def __init__(self, comm: Any, context: rma.Context, size: int, window: int, buffers: int) -> None:
        self.peer, self.buffers = 1 - comm.rank, buffers
        self.memory = context.allocate((buffers, window, size), np.uint8)
        self.signals = [context.signal() for _ in range(buffers)]
        rows = [(k, self.memory.array[k, w]) for k in range(buffers) for w in range(window)]
        self.blocks = [self.memory.block(row, self.signals[k], self.peer, k) for k, row in rows]
        self.targets = context.exchange({self.peer: self.blocks})[self.peer]
        self.data = source(size)
        self.last = [self.memory.array[k, -1] for k in range(buffers)]
        self.plans = [context.plan() for _ in range(buffers)]
        for (k, _), target in zip(rows, self.targets, strict=True):
            self.plans[k].put(self.data, target)
        self.sent = self.received = 0
        self.read: rma.Signal | None = None
        self.complete = [True] * buffers

    def send(self, stamp: int) -> None:
        k = self.sent % self.buffers
        self.sent += 1
        if not self.complete[k]:
            self.plans[k].wait()
        self.data[:1] = stamp & 255
        self.complete[k] = self.plans[k].start(self.read)
        self.read = None

    def receive(self, stamp: int) -> None:
        k = self.received % self.buffers
        self.received += 1
        if self.read is not None:
            self.read.rearm()
        self.signals[k].wait()
        row = self.last[k]
        if row.size and row[0] != stamp & 255:
            wrong(self.name)
        self.read = self.signals[k]  # re-armed by the next send

    def finish(self) -> None:
        for plan in self.plans:
            plan.wait()

    def free(self) -> None:
        """Free room in the context's tables for the next size; nothing of ours may be under way on either rank."""
        for plan in self.plans:
            plan.free()
        for target in self.targets:
            target.close()
        self.last.clear()
        for block in self.blocks:
            block.free()
        for signal in self.signals:
            signal.free()
        self.memory.free()


class TwoSided(Way):
    """MPI's Send and Recv, or Isend and Irecv for a window."""

    name = "send"

    def __init__(self, comm: Any, context: Any, size: int, window: int, buffers: int) -> None:
        self.comm, self.peer, self.window = comm, 1 - comm.rank, window
        self.data, self.into = source(size), np.zeros((window, size), np.uint8)
        self.first, self.last = self.into[0], self.into[-1]

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        if self.window == 1:
            self.comm.Send(self.data, self.peer)
            return
        for request in [self.comm.Isend(self.data, self.peer) for _ in range(self.window)]:
            request.Wait()

    def receive(self, stamp: int) -> None:
        if self.window == 1:
            self.comm.Recv(self.first, self.peer)
        else:
            for request in [self.comm.Irecv(row, self.peer) for row in self.into]:
                request.Wait()
        if self.last.size and self.last[0] != stamp & 255:
            wrong(self.name)

    def both(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        requests = [self.comm.Irecv(row, self.peer) for row in self.into]
        requests += [self.comm.Isend(self.data, self.peer) for _ in range(self.window)]
        for request in requests:
            request.Wait()

    def finish(self) -> None:
        pass


class Flag(Way):
    """MPI Put, flush, and a flag put after it, which the target polls."""

    name = "flag"

    def __init__(self, comm: Any, context: Any, size: int, window: int, buffers: int) -> None:
        from mpi4py import MPI

        self.peer, self.window, self.size = 1 - comm.rank, window, size
        self.win = MPI.Win.Allocate(size * window + 8, 1, comm=comm)
        self.memory = np.frombuffer(self.win.tomemory(), np.uint8)
        self.memory[:] = 0
        self.count, self.seen = np.zeros(1, np.int64), 0
        self.data = source(size)
        comm.Barrier()
        self.win.Lock_all()

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        for w in range(self.window):
            self.win.Put(self.data, self.peer, w * self.size)
        self.win.Flush(self.peer)
        self.count += 1
        self.win.Put(self.count.view(np.uint8), self.peer, self.window * self.size)
        self.win.Flush(self.peer)

    def receive(self, stamp: int) -> None:
        self.seen += 1
        place = slice(self.window * self.size, self.window * self.size + 8)
        while int.from_bytes(self.memory[place].tobytes(), sys.byteorder) < self.seen:
            self.win.Sync()
        ahead = int(self.memory[0]) - stamp & 255 if self.size else 0
        if ahead > 1:  # nothing holds the peer back, so the next one may be there already
            wrong(self.name)

    def finish(self) -> None:
        self.win.Unlock_all()
        self.win.Free()


class Active(Way):
    """MPI Put in an epoch of post, start, complete and wait."""

    name = "pscw"

    def __init__(self, comm: Any, context: Any, size: int, window: int, buffers: int) -> None:
        from mpi4py import MPI

        self.peer, self.window, self.size = 1 - comm.rank, window, size
        self.win = MPI.Win.Allocate(max(size * window, 1), 1, comm=comm)
        self.memory = np.frombuffer(self.win.tomemory(), np.uint8)
        self.group = comm.Get_group().Incl([self.peer])
        self.data = source(size)
        comm.Barrier()

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        self.win.Start(self.group)
        for w in range(self.window):
            self.win.Put(self.data, self.peer, w * self.size)
        self.win.Complete()

    def receive(self, stamp: int) -> None:
        self.win.Post(self.group)
        self.win.Wait()
        if self.size and self.memory[0] != stamp & 255:
            wrong(self.name)

    def both(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        self.win.Post(self.group)
        self.win.Start(self.group)
        for w in range(self.window):
            self.win.Put(self.data, self.peer, w * self.size)
        self.win.Complete()
        self.win.Wait()

    def finish(self) -> None:
        self.group.Free()
        self.win.Free()


class Fence(Active):
    """MPI Put between fences, which both sides call."""

    name = "fence"

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        self.win.Fence()
        for w in range(self.window):
            self.win.Put(self.data, self.peer, w * self.size)
        self.win.Fence()

    def both(self, stamp: int) -> None:
        self.send(stamp)

    def receive(self, stamp: int) -> None:
        self.win.Fence()
        self.win.Fence()
        if self.size and self.memory[0] != stamp & 255:
            wrong(self.name)
