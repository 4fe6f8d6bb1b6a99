"""A call as read from its arguments: what all ranks have alike, and this rank's memory."""

from __future__ import annotations

from typing import NamedTuple

from mpi4py import MPI

from topocomm.arrays import Bytes
from topocomm.collectives import COLLECTIVES
from topocomm.comm.buffers import EMPTY, Buffer
from topocomm.comm.operations import PLAIN, Traits, op_name, type_name

__all__ = ["Call", "Read"]


class Call(NamedTuple):
    """The arguments of a call that all ranks give alike."""

    collective: str
    counts: int | tuple[int, ...]
    """Elements of a block of a gather-like call, or of the whole vector, or of every block of a reduce_scatter."""
    itemsize: int
    root: int = 0
    named: str | None = None
    """The algorithm that this call asks for."""
    traits: Traits = PLAIN

    def nbytes(self, size: int) -> int:
        """Bytes of the whole vector, by which the choice is made."""
        if isinstance(self.counts, tuple):
            return sum(self.counts) * self.itemsize
        return self.counts * self.itemsize * (size if COLLECTIVES[self.collective].counts_block else 1)

    def describe(self, kind: str = "") -> str:
        """The call in words, for the error that shows a disagreement; ``kind``: type and operation of a reduction."""
        counts = self.counts if isinstance(self.counts, int) else f"counts {list(self.counts)[:8]}"
        root = f", root {self.root}" if COLLECTIVES[self.collective].rooted else ""
        named = f", algorithm {self.named}" if self.named else ""
        return f"{self.collective} of {counts} × {self.itemsize} bytes{kind and ', ' + kind}{root}{named}"


class Read(NamedTuple):
    """The arguments of one call on one rank, read; nothing has been sent yet.

    Memory of the caller is referred to, not copied, where it can be read in place.
    """

    call: Call
    in_place: bool
    """The input lies in the receive buffer."""
    send: Bytes = EMPTY
    recv: Bytes = EMPTY
    result: Buffer | None = None
    """Delivers the result where ``recv`` is a copy."""
    op: MPI.Op = MPI.OP_NULL
    datatype: MPI.Datatype = MPI.BYTE
    fault: str = ""
    """A mistake of this rank alone, which is said when the call is done so that no other rank waits."""

    def describe(self) -> str:
        """The call in words, with the type and operation of a reduction."""
        if self.op == MPI.OP_NULL:
            return self.call.describe()
        return self.call.describe(f"{type_name(self.datatype, self.call.itemsize)}, {op_name(self.op)}")
