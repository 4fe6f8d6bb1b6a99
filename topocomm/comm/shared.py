"""Calls of one communicator through memory that its ranks share, opened when all ranks first make such a call."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mpi4py import MPI

from topocomm.choose.shared import MOST_RANKS, Host, fits
from topocomm.comm.call import Call, Read
from topocomm.comm.recent import Recent
from topocomm.errors import Error

if TYPE_CHECKING:
    from topocomm.engines.carrier import Carrier
    from topocomm.engines.node import LargeCall, Node, NodeCall

__all__ = ["Shared"]

MOST_CALLS = 256
"""Calls with their arguments that a communicator keeps."""


class _Key(NamedTuple):
    call: Call
    op: int
    datatype: int


class Shared:
    """The shared memory of a communicator, if it has any, and the calls that go through it.

    ``one_host`` tells whether the topology says that all ranks are on one node. That is tried when the memory is
    opened; ranks that turn out to be apart have :attr:`why_not` from then on.
    """

    def __init__(
        self, comm: MPI.Intracomm, engine: str, one_host: Callable[[], bool], carrier: Callable[[], Carrier]
    ) -> None:
        self._comm, self._carrier, self._one_host = comm, carrier, one_host
        self._size = comm.Get_size()
        self._node: Node | None = None
        self._calls: Recent[_Key, NodeCall | LargeCall] = Recent(MOST_CALLS)
        self._engine = engine
        self._why_not: str | None = None
        self._looked = False

    @property
    def why_not(self) -> str | None:
        """Why no call can go this way; None if calls can, as far as is known. The same on all ranks."""
        if not self._looked:
            self._why_not, self._looked = self._excluded(), True
        return self._why_not

    def _excluded(self) -> str | None:
        if self._engine != "c":
            return f"engine {self._engine} has no shared memory"
        if not 1 < self._size <= MOST_RANKS:
            return f"{self._size} ranks, needs 2 to {MOST_RANKS}"
        return None if self._one_host() else "the ranks are not on one node"

    @property
    def host(self) -> Host:
        """What all ranks know of their host; before the memory is open, what this one knows."""
        if self._node is not None:
            return Host(self._size, self._node.crowded, self._node.multiple)
        return Host(self._size, self._size > len(os.sched_getaffinity(0)), MPI.Query_thread() == MPI.THREAD_MULTIPLE)

    def open(self) -> None:
        """Open the memory, unless that was tried. Collective; all ranks have the same result."""
        from topocomm.engines.node import Node

        if self._node is not None or self.why_not is not None:
            return
        found = Node.open(self._comm, self._carrier().comm)
        if isinstance(found, Node):
            self._node = found
        else:
            self._why_not = found

    def close(self) -> None:
        """Let go of the memory."""
        if self._node is not None and self._node.settle is None:
            self._node.close()
        elif self._node is not None:  # the last of the calls that were started lets go of it
            self._node.settle = None
        self._node, self._why_not, self._looked = None, "the communicator was freed", True

    @property
    def is_open(self) -> bool:
        """True if calls may be known."""
        return self._node is not None

    def known(self, read: Read) -> NodeCall | LargeCall | None:
        """Return a call that was made before."""
        return self._calls.get(_key(read))

    def make(self, read: Read) -> NodeCall | LargeCall:
        """Return the call that was read. Raises Error if the memory is not open."""
        if self._node is None:
            raise Error(f"shared memory is not open: {self._why_not}")
        from topocomm.engines.node import Arguments

        call = read.call
        counts, each = None, 0
        if isinstance(call.counts, tuple):
            counts = [count * call.itemsize for count in call.counts]
        else:
            each = call.counts * call.itemsize
        make = self._node.call if fits(call.collective, call.nbytes(self._size), self._size) else self._node.large
        made = make(Arguments(call.collective, each, call.root, counts, read.op, read.datatype, call.itemsize))
        return self._calls.put(_key(read), made)

    def frames(self, name: str, root: int) -> NodeCall:
        """Return what brings the frames of a call on objects. Raises Error if the memory is not open."""
        if self._node is None:
            raise Error(f"shared memory is not open: {self._why_not}")
        return self._node.frames(name, root)


def _key(read: Read) -> _Key:
    return _Key(read.call, read.op.handle, read.datatype.handle)
