"""Collectives among the ranks of one host through memory that they share: ``csrc/coll/node.h``.

One :class:`Node` belongs to one communicator, whose ranks make the same calls in the same order:

    node = Node.open(comm, carrier)          # collective; a text if it cannot be
    call = node.call(Arguments("allreduce", nbytes, op=op, datatype=datatype))
    call.run(send, recv)

The interpreter's lock is free while a call waits; MPI is driven meanwhile, and signals are handled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes
from topocomm.collectives import COLLECTIVES, PREFIXES, REDUCING, ROOTED
from topocomm.engines.combiners import combiner, numbers
from topocomm.engines.structs import gathered
from topocomm.errors import Error
from topocomm.library import address, handle
from topocomm.rma._core import ffi, lib

__all__ = ["LARGEST", "MOST_RANKS", "OBJECT_CALLS", "Arguments", "LargeCall", "Node", "NodeCall"]

LARGEST, MOST_RANKS = int(lib.TC_NODE_LARGEST), int(lib.TC_NODE_RANKS)
"""Bytes that a rank gives in one call at most; ranks of a node at most."""
_SLICE = 0.01
"""Seconds after which a wait in C comes back to let Python handle signals."""
_WORDS = 64
"""64-bit words of a mask of cores."""
OBJECT_CALLS = ("allreduce", "allgather", "bcast", "gather", "reduce")
"""Calls on Python objects, whose bytes travel in frames; of a broadcast the root's alone."""
_NAMES = {int(getattr(lib, f"TC_{name.upper()}")): name for name in COLLECTIVES if name not in PREFIXES}


class Arguments(NamedTuple):
    """A call's arguments but the buffers."""

    collective: str
    nbytes: int
    """Of a vector that is broadcast or reduced; of one block of other collectives."""
    root: int = 0
    counts: Sequence[int] | None = None
    """Of a reduce_scatter: bytes of every rank's block."""
    op: MPI.Op = MPI.OP_NULL
    """Of a reduction: an operation of MPI's own."""
    datatype: MPI.Datatype = MPI.BYTE
    """Of a reduction: a predefined type."""
    itemsize: int = 1
    """Bytes of an element."""

    def in_c(self) -> tuple[Any, Any]:
        """Return the arguments in C, and what they point to, which must be kept."""
        blocks = ffi.NULL if self.counts is None else ffi.new("uint64_t[]", self.counts)
        fields = {"collective": getattr(lib, f"TC_{self.collective.upper()}"), "root": self.root}
        fields |= {"bytes": self.nbytes, "counts": blocks, "staged": self.collective in REDUCING}
        if self.collective in REDUCING:
            fields |= {"item": self.itemsize, "choice": _choice(self.op, self.datatype)}
        return ffi.new("tc_node_arguments *", fields), blocks


class Node:
    """The memory that the ranks of a communicator share. Made by :meth:`open`."""

    def __init__(self, comm: MPI.Intracomm, pointer: Any, crowded: bool, multiple: bool) -> None:
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.crowded, self.multiple = crowded, multiple
        self.pointer: Any = ffi.gc(pointer, lib.tc_node_free)
        """The ``tc_node *`` of C."""
        self.settle: Callable[[], None] | None = None
        """Waits until no call is under way that was started to be waited for later; None: there was none."""

    @classmethod
    def open(cls, comm: MPI.Intracomm, probed: MPI.Intracomm) -> Node | str:
        """Open the memory. Collective; returns why not, on all ranks alike, if a rank cannot.

        ``probed`` carries nothing that a probe may find; MPI is driven by probing it.
        """
        out, place = ffi.new("tc_node **"), ffi.new("tc_node_address *")
        mpi = {"iprobe": address("MPI_Iprobe"), "reduce_local": address("MPI_Reduce_local"), "handle": handle(probed)}
        mpi |= {"any_source": MPI.ANY_SOURCE, "any_tag": MPI.ANY_TAG}
        here, driven = (comm.Get_rank(), comm.Get_size()), ffi.new("tc_node_mpi *", mpi)
        status = lib.tc_node_create(*here, driven, out, place) if here[0] == 0 else 0
        comm.Bcast(np.frombuffer(ffi.buffer(place), np.uint8))
        if here[0] != 0:
            status = lib.tc_node_attach(*here, driven, place, out)
        reached = _reached(comm)
        cores, level, failed = _agreed(comm, status or reached)
        if failed:
            if status == 0:
                lib.tc_node_free(out[0])
            return f"a rank cannot open memory of another one on its host ({_text(-failed)})"
        lib.tc_node_seal(out[0], cores)
        return cls(comm, out[0], comm.Get_size() > cores, level == 1 << MPI.THREAD_MULTIPLE)

    def call(self, arguments: Arguments) -> NodeCall:
        """Return a call that can be made as often as wanted.

        Raises Error if a rank would give more than :data:`LARGEST` bytes, or the operation is the program's own.
        """
        out, given = ffi.new("tc_node_call **"), arguments.in_c()
        self._made(lib.tc_node_call_new(self.pointer, given[0], out), arguments)
        return NodeCall(self, ffi.gc(out[0], lib.tc_node_call_free))

    def large(self, arguments: Arguments) -> LargeCall:
        """Return a call of any size: an allreduce, bcast, allgather, alltoall or reduce_scatter.

        Raises Error for another collective, or an operation of the program's own.
        """
        out, given = ffi.new("tc_node_large **"), arguments.in_c()
        self._made(lib.tc_node_large_new(self.pointer, given[0], out), arguments)
        return LargeCall(self, ffi.gc(out[0], lib.tc_node_large_free))

    def _made(self, status: int, asked: Arguments) -> None:
        if status != 0:
            name = f"{asked.collective} of {asked.nbytes} bytes"
            raise Error(f"rank {self.rank}: {name} through shared memory: {_text(status)}")

    def frames(self, name: str, root: int = 0) -> NodeCall:
        """Return a call, one of :data:`OBJECT_CALLS`, that brings frames of all ranks, or of the root, to all.

        A frame has a header of 8 bytes, of which the lower half is the number of bytes behind it, and room for
        :data:`LARGEST` bytes in all; what is behind that is cut off. The result has this room for every frame.
        """
        kind = lib.TC_ROOT_FRAME if name == "bcast" else lib.TC_FRAMES
        arguments = {"collective": kind, "root": root, "bytes": LARGEST, "item": 1}
        arguments |= {"choice": {"by": lib.TC_BY_CALLER, "operation": OBJECT_CALLS.index(name)}}
        out = ffi.new("tc_node_call **")
        status = lib.tc_node_call_new(self.pointer, ffi.new("tc_node_arguments *", arguments), out)
        if status != 0:
            raise Error(f"rank {self.rank}: {name} of objects through shared memory: {_text(status)}")
        return NodeCall(self, ffi.gc(out[0], lib.tc_node_call_free))

    def close(self) -> None:
        """Let go of the memory. Calls that are left raise Error."""
        ffi.release(self.pointer)

    def busy(self) -> Error:
        """Return the exception of a call that another thread's call is in the way of."""
        return Error(
            f"rank {self.rank}: two collectives at once on one communicator; let one thread wait for the other"
        )

    def failure(self, status: int) -> Exception:
        """Return the exception for a status below zero."""
        fault = ffi.new("tc_node_fault *")
        if lib.tc_node_failure(self.pointer, fault) != 0:
            return Error(f"rank {self.rank}: call through shared memory: {_text(status)}")
        if status == lib.TC_ERR_MPI and fault.rank == self.rank:
            return MPI.Exception(fault.code)
        mine, theirs = _called(fault.mine), _called(fault.theirs)
        text = {
            lib.TC_ERR_MISMATCH: f"the ranks call differently: rank {fault.rank}: {mine}; rank {fault.peer}: {theirs}; "
            "all must give the same",
            lib.TC_ERR_PEER_LOST: f"rank {fault.peer} ended, but rank {fault.rank} waits for it",
            lib.TC_ERR_UNREACHABLE: f"rank {fault.rank} cannot open arrays of rank {fault.peer} on its host",
            lib.TC_ERR_LEFT: f"rank {fault.rank} left {mine} while others wait in it, and makes no more",
            lib.TC_ERR_MPI: f"rank {fault.rank} got MPI error {fault.code} while it waited",
        }[status]
        return Error(f"rank {self.rank}: collective {fault.number} through shared memory: {text}")


class NodeCall:
    """One call with its arguments but the buffers."""

    __slots__ = ("node", "pointer")

    def __init__(self, node: Node, pointer: Any) -> None:
        self.node = node
        self.pointer = pointer
        """The ``tc_node_call *`` of C."""

    def run(self, send: Bytes, recv: Bytes) -> None:
        """Make the call and wait for it.

        Parameters
        ----------
        send, recv
            What the rank gives and what it gets; in place, ``send`` lies in ``recv``. Of a broadcast the root's vector
            is ``send``, the others' ``recv``.

        Raises
        ------
        Error
            If ranks call differently, or one ended or left the call. No more calls can be made then.
        mpi4py.MPI.Exception
            Whatever MPI raises.
        """
        self._run(ffi.from_buffer(send), ffi.from_buffer(recv))

    def _run(self, send: Any, recv: Any) -> None:
        status = lib.tc_node_run(self.pointer, send, recv, _SLICE)
        if status == lib.TC_ERR_BUSY and self.node.settle is not None:
            self.node.settle()
            status = lib.tc_node_run(self.pointer, send, recv, _SLICE)
        self._end(status)

    @property
    def address(self) -> int:
        """Address of the C function that makes the call: of state, buffers and seconds."""
        return int(ffi.cast("uintptr_t", ffi.addressof(lib, "tc_node_run")))

    @property
    def state(self) -> int:
        """Address of the call in C."""
        return int(ffi.cast("uintptr_t", self.pointer))

    def finish(self, status: int, send: int, recv: int) -> None:
        """Finish a call that C started, with buffers at these addresses, and that ended with ``status``.

        Raises what :meth:`run` raises.
        """
        if status == lib.TC_ERR_BUSY and self.node.settle is not None:
            self._run(ffi.cast("void *", send), ffi.cast("void *", recv))
            return
        self._end(status)

    def _end(self, status: int) -> None:
        """Wait for a call that has started."""
        if status == lib.TC_ERR_BUSY:  # another thread is in a call of this communicator
            raise self.node.busy()
        try:
            while status == lib.TC_AGAIN:
                status = lib.tc_node_wait(self.node.pointer, _SLICE)
        except BaseException:
            if status == lib.TC_AGAIN:
                lib.tc_node_leave(self.node.pointer)
            raise
        if status != 0:
            raise self.node.failure(status)


class LargeCall:
    """One call of any size with its arguments but the buffers.

    Arrays of :func:`topocomm.empty` are written by the ranks that make their parts. Reductions of ordinary arrays go
    through memory of the host; calls that only move them are left alone.
    """

    __slots__ = ("node", "pointer")

    def __init__(self, node: Node, pointer: Any) -> None:
        self.node, self.pointer = node, pointer

    def run(self, send: Bytes, recv: Bytes) -> bool:
        """Make the call and wait for it; arguments and errors are those of :meth:`NodeCall.run`.

        Returns
        -------
        bool
            False, on all ranks alike, if arrays that are only moved cannot be reached, or a rank lacks memory: then
            nothing was done.
        """
        buffers = ffi.from_buffer(send), ffi.from_buffer(recv)
        status = lib.tc_node_large_run(self.pointer, *buffers, _SLICE)
        if status == lib.TC_ERR_BUSY and self.node.settle is not None:
            self.node.settle()
            status = lib.tc_node_large_run(self.pointer, *buffers, _SLICE)
        if status == lib.TC_ERR_BUSY:  # another thread is in a call of this communicator
            raise self.node.busy()
        try:
            while status == lib.TC_AGAIN:
                status = lib.tc_node_large_wait(self.pointer, _SLICE)
        except BaseException:
            if status == lib.TC_AGAIN:
                lib.tc_node_leave(self.node.pointer)
            raise
        if status not in (0, lib.TC_APART):
            raise self.node.failure(status)
        return bool(status == 0)


def _reached(comm: MPI.Intracomm) -> int:
    """Return the status of reaching what the processes of all ranks show to others. Collective."""
    mine = ffi.new("tc_share_address *")
    lib.tc_share_here(mine)  # where it fails, nobody reaches it
    everybody = gathered(comm, mine, "tc_share_address[]")
    return min(int(lib.tc_share_reached(ffi.addressof(everybody, rank))) for rank in range(comm.Get_size()))


def _agreed(comm: MPI.Intracomm, status: int) -> tuple[int, int, int]:
    """Return the number of cores of all ranks, their thread levels as bits, and a failure's number or 0."""
    mask = sum(1 << core for core in os.sched_getaffinity(0) if core < 64 * _WORDS)
    words = [mask >> (64 * k) & (1 << 64) - 1 for k in range(_WORDS)]
    mine = np.array([*words, 1 << MPI.Query_thread(), -status], np.uint64)
    comm.Allreduce(MPI.IN_PLACE, mine, MPI.BOR)
    found = mine.tolist()
    return sum(word.bit_count() for word in found[:_WORDS]), found[-2], found[-1]


def _choice(op: MPI.Op, datatype: MPI.Datatype) -> Any:
    """Return who combines; where that is MPI, with the numbers of operation and element for the others to compare."""
    choice = combiner(op, datatype)
    if choice.by != lib.TC_BY_MPI:
        return choice[0]
    operation, element = numbers(op, datatype)
    fields = {"by": choice.by, "op": choice.op, "type": choice.type, "operation": operation, "element": element}
    return ffi.new("tc_operation_choice *", fields)[0]


def _called(called: Any) -> str:
    """Return a call in words."""
    if called.collective in (lib.TC_FRAMES, lib.TC_ROOT_FRAME):
        return f"{OBJECT_CALLS[called.operation]} of objects, root {called.root}"
    if called.collective not in _NAMES:
        return "another call, now or earlier"
    name = _NAMES[called.collective]
    words = [f"{name} of {called.bytes} bytes"]
    if name in REDUCING:
        words += [f"operation {called.operation}", f"element {called.element}"]
    if name in ROOTED:
        words.append(f"root {called.root}")
    return ", ".join(words)


def _text(status: int) -> str:
    return str(ffi.string(lib.tc_status_text(status)).decode())
