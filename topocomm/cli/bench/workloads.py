"""One class a collective: its buffers at one size, the arguments of the call, and what must come out.

``Size`` is OSU's: bytes per block for allgather, alltoall, gather and scatter, bytes of the whole vector for the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from topocomm.cli.bench.data import POISON, Pattern
from topocomm.cli.bench.osu import Datatype

__all__ = ["WORKLOADS", "Shape", "Workload"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """The call to measure: who calls, with which type and how many elements, from which roots (used in turn), in
    place or not.
    """

    rank: int
    ranks: int
    datatype: Datatype
    count: int
    roots: Sequence[int] = (0,)
    in_place: bool = False
    misaligned: int = 0
    """Bytes by which buffers start after an address that 64 divides."""

    def filled(self, count: int) -> Array:
        """Make a buffer of this many elements and one more, full of poison."""
        dtype = np.dtype(self.datatype.dtype)
        length = (count + 1) * dtype.itemsize
        room = np.empty(length + 64 + self.misaligned, np.uint8)
        start = -room.ctypes.data % 64 + self.misaligned
        buffer: Array = room[start : start + length].view(dtype)
        buffer[:] = POISON
        return buffer


class Workload:
    """Buffers, calls and expectations of one collective at one size on one rank.

    A subclass says how many elements it sends and receives, what the result is, and where an in-place call starts from.
    Each buffer has one more element than the call may touch; it must keep its poison.
    """

    adds = False

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.type = getattr(MPI, shape.datatype.attribute)
        addends = shape.ranks if self.adds else 1
        self.pattern = Pattern(max(self.sends(), self.receives()), shape.datatype, addends)
        self.send, self.receive = shape.filled(self.sends()), shape.filled(self.receives())
        self.arguments = [self.call(root) for root in shape.roots]

    def sends(self) -> int:
        """Return the elements of the send buffer."""
        return self.shape.count

    def receives(self) -> int:
        """Return the elements of the receive buffer."""
        return self.shape.count

    def call(self, root: int) -> tuple[Any, ...]:
        """Return the arguments of the MPI call."""
        raise NotImplementedError

    def result(self, root: int, iteration: int) -> Array | None:
        """Return the expected start of the receive buffer; None where this rank receives nothing."""
        raise NotImplementedError

    def in_place_at(self, root: int) -> bool:
        """Return True if this rank passes MPI.IN_PLACE."""
        return self.shape.in_place

    def in_place_offset(self) -> int:
        """Return the place in the receive buffer of this rank's contribution to an in-place call, in elements."""
        return 0

    def root(self, iteration: int) -> int:
        return self.shape.roots[iteration % len(self.shape.roots)]

    def prepare(self, iteration: int) -> None:
        """Fill the buffers for one iteration: this rank's data in, poison where results go."""
        shape = self.shape
        self.receive[:] = POISON
        own = self.pattern.of(shape.rank, iteration, 0, self.sends())
        self.send[:-1] = own
        if self.in_place_at(self.root(iteration)):
            start = self.in_place_offset()
            stop = min(start + len(own), self.receives())
            self.receive[start:stop] = own[: stop - start]

    def mistake(self, iteration: int) -> str | None:
        """Say what is wrong with the buffers after the call of an iteration; None when all is right."""
        rank, root = self.shape.rank, self.root(iteration)
        wanted = self.result(root, iteration)
        checks = [] if wanted is None else [("receive buffer", self.receive[: len(wanted)], wanted)]
        own = self.pattern.of(rank, iteration, 0, self.sends())
        checks += [
            ("send buffer", self.send, np.append(own, self.send.dtype.type(POISON))),
            ("element after the receive buffer", self.receive[-1:], np.full(1, POISON)),
        ]
        for what, found, right in checks:
            wrong = np.flatnonzero(found != right)
            if len(wrong):
                i = wrong[0]
                return f"rank {rank}: {what}: element {i} is {found[i]}, must be {right[i]} ({len(wrong)} wrong)"
        return None

    def _send(self, root: int = 0) -> Any:
        return MPI.IN_PLACE if self.in_place_at(root) else [self.send[:-1], self.type]

    def _receive(self) -> Any:
        return [self.receive[:-1], self.type]

    def _gathered(self, iteration: int) -> Array:
        count = self.shape.count
        return np.concatenate([self.pattern.of(rank, iteration, 0, count) for rank in range(self.shape.ranks)])

    def _summed(self, iteration: int, start: int = 0, stop: int | None = None) -> Array:
        return self.pattern.total(range(self.shape.ranks), iteration, start, self.sends() if stop is None else stop)


class Allgather(Workload):
    def receives(self) -> int:
        return self.shape.count * self.shape.ranks

    def in_place_offset(self) -> int:
        return self.shape.count * self.shape.rank

    def call(self, root: int) -> tuple[Any, ...]:
        return self._send(), self._receive()

    def result(self, root: int, iteration: int) -> Array:
        return self._gathered(iteration)


class Allreduce(Workload):
    adds = True

    def call(self, root: int) -> tuple[Any, ...]:
        return self._send(), self._receive(), MPI.SUM

    def result(self, root: int, iteration: int) -> Array:
        return self._summed(iteration)


class Scan(Allreduce):
    def _ranks(self) -> range:
        """Return the ranks whose operands make up the result."""
        return range(self.shape.rank + 1)

    def result(self, root: int, iteration: int) -> Array:
        return self.pattern.total(self._ranks(), iteration, 0, self.sends())


class Exscan(Scan):
    """The first rank gets nothing."""

    def _ranks(self) -> range:
        return range(self.shape.rank)

    def result(self, root: int, iteration: int) -> Array:
        return super().result(root, iteration)[: self.sends() if self.shape.rank else 0]


class ReduceScatter(Workload):
    """The vector is split as evenly as possible, the first ranks get the remainder."""

    adds = True

    def counts(self) -> list[int]:
        """Return the elements that each rank receives."""
        portion, remainder = divmod(self.shape.count, self.shape.ranks)
        return [portion + (rank < remainder) for rank in range(self.shape.ranks)]

    def sends(self) -> int:
        return sum(self.counts())

    def receives(self) -> int:
        return self.sends() if self.shape.in_place else self.counts()[self.shape.rank]

    def call(self, root: int) -> tuple[Any, ...]:
        return self._send(), self._receive(), self.counts(), MPI.SUM

    def result(self, root: int, iteration: int) -> Array:
        counts, rank = self.counts(), self.shape.rank
        start = sum(counts[:rank])
        return self._summed(iteration, start, start + counts[rank])


class ReduceScatterBlock(ReduceScatter):
    """Every rank gets the same whole number of elements; what is left of the vector is not used."""

    def counts(self) -> list[int]:
        return [self.shape.count // self.shape.ranks] * self.shape.ranks

    def call(self, root: int) -> tuple[Any, ...]:
        return self._send(), self._receive(), MPI.SUM


class Alltoall(Workload):
    def sends(self) -> int:
        return self.shape.count * self.shape.ranks

    def receives(self) -> int:
        return self.sends()

    def call(self, root: int) -> tuple[Any, ...]:
        return self._send(), self._receive()

    def result(self, root: int, iteration: int) -> Array:
        start, count = self.shape.rank * self.shape.count, self.shape.count
        blocks = [self.pattern.of(rank, iteration, start, start + count) for rank in range(self.shape.ranks)]
        return np.concatenate(blocks)


class Bcast(Workload):
    """The receive buffer is the only buffer; at the root it starts with the data."""

    def in_place_at(self, root: int) -> bool:
        return root == self.shape.rank

    def call(self, root: int) -> tuple[Any, ...]:
        return self._receive(), root

    def result(self, root: int, iteration: int) -> Array:
        return self.pattern.of(root, iteration, 0, self.shape.count)


class _Rooted(Workload):
    def in_place_at(self, root: int) -> bool:
        return self.shape.in_place and root == self.shape.rank

    def call(self, root: int) -> tuple[Any, ...]:
        return self._send(root), self._receive() if root == self.shape.rank else None, *self.operation(), root

    def operation(self) -> tuple[Any, ...]:
        return ()


class Reduce(_Rooted):
    adds = True

    def operation(self) -> tuple[Any, ...]:
        return (MPI.SUM,)

    def result(self, root: int, iteration: int) -> Array | None:
        return self._summed(iteration) if root == self.shape.rank else None


class Gather(_Rooted):
    def receives(self) -> int:
        return self.shape.count * self.shape.ranks

    def in_place_offset(self) -> int:
        return self.shape.count * self.shape.rank

    def result(self, root: int, iteration: int) -> Array | None:
        return self._gathered(iteration) if root == self.shape.rank else None


class Scatter(Workload):
    """In place the root keeps its block where it is, so it receives nothing."""

    def sends(self) -> int:
        return self.shape.count * self.shape.ranks

    def in_place_at(self, root: int) -> bool:
        return False

    def call(self, root: int) -> tuple[Any, ...]:
        if root != self.shape.rank:
            return None, self._receive(), root
        return self._send(), MPI.IN_PLACE if self.shape.in_place else self._receive(), root

    def result(self, root: int, iteration: int) -> Array | None:
        if self.shape.in_place and root == self.shape.rank:
            return None
        start = self.shape.rank * self.shape.count
        return self.pattern.of(root, iteration, start, start + self.shape.count)


class Barrier(Workload):
    def call(self, root: int) -> tuple[Any, ...]:
        return ()

    def result(self, root: int, iteration: int) -> None:
        return None


WORKLOADS: dict[str, type[Workload]] = {
    "allgather": Allgather,
    "allreduce": Allreduce,
    "reduce_scatter": ReduceScatter,
    "reduce_scatter_block": ReduceScatterBlock,
    "alltoall": Alltoall,
    "bcast": Bcast,
    "reduce": Reduce,
    "gather": Gather,
    "scatter": Scatter,
    "scan": Scan,
    "exscan": Exscan,
    "barrier": Barrier,
}
"""Collective → workload."""
