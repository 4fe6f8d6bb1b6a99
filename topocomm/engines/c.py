"""Engine ``c``: programs walked in C, as messages of the MPI library that mpi4py has loaded.

One :class:`Engine` belongs to one communicator that carries nothing else. It loads programs, they are sized, and a
sized program is started as often as wanted, several times at once if need be:

    engine = Engine(private)
    sized = engine.load(program).size(counts, itemsize)
    sized.run(send, recv, op, datatype)              # a blocking call
    run = sized.start(send, recv, op, datatype)      # a non-blocking one
    run.test(); run.wait()

Whoever tests or waits for one run drives all of its communicator. The interpreter's lock is free meanwhile.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm import library
from topocomm.arrays import Bytes, IntArray
from topocomm.engines import puts
from topocomm.engines.combiners import combiner
from topocomm.engines.lengths import LengthError
from topocomm.engines.structs import gathered
from topocomm.errors import BufferError, Error, ProgramError
from topocomm.library import handle
from topocomm.plan.program import Program
from topocomm.rma._core import ffi, lib

__all__ = ["LARGEST", "Bound", "Engine", "Loaded", "Run", "Sized", "why_not"]

LARGEST = 1 << 30
"""Bytes of the longest message; longer ones are split, on both sides alike."""
_SLICE = 0.01
"""Seconds after which a wait in C comes back to let Python handle signals."""
_LOOK = 0.5
"""Seconds of waiting between two looks whether the ranks of this host live."""
_MOST = 1 << 30
"""Elements combined by one call: MPI libraries before MPI-4 count them in 31 bits."""
_UNEQUAL = "the ranks called the collective with different counts or types"
_FUNCTIONS = ("Isend", "Irecv", "Test", "Get_count", "Reduce_local", "Iprobe")


@cache
def _library() -> Any:
    """Return the facts about the MPI library that C needs. Raises Error if it does not show its functions."""
    found = {name.lower(): library.address(f"MPI_{name}") for name in _FUNCTIONS}
    hidden = [name for name in _FUNCTIONS if found[name.lower()] is None]
    if hidden:
        raise Error(f"engine c: the MPI library that mpi4py has loaded shows no MPI_{hidden[0]}; use another engine")
    widths = {"request_bytes": MPI._sizeof(MPI.Request), "status_bytes": MPI._sizeof(MPI.Status)}
    anything = {"any_source": MPI.ANY_SOURCE, "any_tag": MPI.ANY_TAG}
    return {**found, **widths, **anything, "byte": handle(MPI.BYTE)}


def why_not() -> str | None:
    """Return why this engine cannot run here; None if it can."""
    try:
        _library()
    except Error as e:
        return str(e)
    return None


class Engine:
    """Programs of one communicator.

    Parameters
    ----------
    comm
        A communicator that carries nothing else; its ranks start the same runs in the same order.
    largest
        Bytes of the longest message, at most 2**31 - 1; must be the same on all ranks.
    ranks
        The rank in ``comm`` of every member; None: all of its ranks.
    first_tag, tags
        Tags that nothing else uses between these ranks; None: as many as MPI allows. At most ``tags`` runs move at one
        time; those that start beyond wait for the oldest to end.

    Raises
    ------
    Error
        If the MPI library's functions are not found.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        largest: int = LARGEST,
        ranks: Sequence[int] | None = None,
        first_tag: int = 0,
        tags: int | None = None,
    ) -> None:
        members = np.asarray(range(comm.Get_size()) if ranks is None else ranks, np.int32)
        self._members: list[int] = members.tolist()
        self._endpoint: puts.Endpoint | None = None
        self.comm, self.rank, self.size = comm, self._members.index(comm.Get_rank()), len(members)
        mpi = ffi.new("tc_mpi *", {**_library(), "largest": largest})
        out = ffi.new("tc_comm **")
        if tags is None:
            tags = min(comm.Get_attr(MPI.TAG_UB) or 32767, 2**31 - 2) - first_tag
        place = self.rank, self.size, ffi.from_buffer("int32_t[]", members), first_tag, tags
        status = lib.tc_comm_open(mpi, handle(comm), *place, out)
        if status != 0:
            raise Error(f"rank {self.rank}: engine c could not open a communicator: {_text(status)}")
        self._comm = ffi.gc(out[0], lib.tc_comm_close)
        self._combining = threading.Lock()
        self._callers: list[Run] = []
        """Runs under way whose operands are combined in Python."""
        self._lost: list[Run] = []
        """Runs that ended with messages under way: MPI may still write to their memory."""

    def share(self, within: MPI.Intracomm, reads: bool = True) -> int:
        """Let messages between ranks of one host go through memory that they share. Collective, before the first run.

        Parameters
        ----------
        within
            A communicator of the same ranks in the same order, for two Allgathers.
        reads
            The receiver reads large messages out of the sender's memory where the kernel lets it; False: they go in
            pieces. May differ between ranks.

        Returns
        -------
        int
            The number of other ranks that messages go to so; 0 on all ranks of the communicator where some rank of a
            host cannot reach another.
        """
        mine, offer = ffi.new("tc_share_address *"), ffi.new("tc_share_offer *")
        if lib.tc_share_here(mine) != 0:
            mine.host = 0
        everybody = gathered(within, mine, "tc_share_address[]")
        if len({a.host for a in everybody}) == self.size or not all(a.host for a in everybody):
            return 0
        way = lib.TC_SHARE_READ if reads else lib.TC_SHARE_PIECES
        lib.tc_comm_share(self._comm, everybody, way, offer)  # where it fails, the offer says so
        lib.tc_comm_shared(self._comm, gathered(within, offer, "tc_share_offer[]"))
        return int(lib.tc_comm_sharing(self._comm))

    def put(self, ours: puts.Endpoint, tag: int) -> None:
        """Let messages that have no nearer way go as notified puts, where both sides have a network. Local.

        All ranks do so, before the first run. ``tag`` is one that nothing else uses: channels are opened with it.
        """
        self._endpoint, numbers = ours, puts.numbers(self.comm, self._members)
        if numbers[self.rank] < 0:
            return
        status = lib.tc_comm_puts(self._comm, ours.handle, ffi.from_buffer("int32_t[]", numbers), tag)
        if status != 0:
            raise Error(f"rank {self.rank}: engine c could not set up notified puts: {_text(status)}")

    def transport(self, member: int) -> str | None:
        """Return the name of what carries messages to a member; None: not known before the first of them."""
        kind = ffi.new("uint32_t *")
        status = lib.tc_comm_transport(self._comm, member, kind)
        return {lib.TC_SHM: "shm", lib.TC_OFI: "ofi", lib.TC_MSG: "mpi"}[kind[0]] if status == 0 else None

    def carried(self, level: Callable[[int], str | None]) -> str:
        """Return in words how many other ranks each transport reaches, by level, and why none of them is puts.

        ``level`` tells the innermost level at which a member is beside this rank; None: there is none.
        """
        others = [r for r in range(self.size) if r != self.rank]
        found: dict[str, Counter[str | None]] = {}
        for r in others:
            found.setdefault(self.transport(r) or "not known yet", Counter())[level(r)] += 1
        provider = f" ({self._endpoint.provider})" if self._endpoint and self._endpoint.provider else ""
        names = (f"{name}{provider if name == 'ofi' else ''}: {_at(found[name])}" for name in sorted(found))
        why = f"; no ofi here: {self._endpoint.why}" if self._endpoint and self._endpoint.why else ""
        return f"messages to other ranks by {', '.join(names)}{why}" if found else ""

    def load(self, program: Program) -> Loaded:
        """Check a program and prepare it. Raises ProgramError."""
        return Loaded(self, program)

    @property
    def pointer(self) -> Any:
        """The ``tc_comm *`` of C."""
        return self._comm

    def combine(self) -> None:
        """Combine for every run that needs it, unless another thread does."""
        if not self._combining.acquire(blocking=False):
            return
        try:
            for run in list(self._callers):
                run._combine()
        finally:
            self._combining.release()


def _at(ranks: Counter[str | None]) -> str:
    """Return a number of ranks, and where they are if levels are known."""
    parts = ", ".join(f"{level or 'farther'} {n}" for level, n in ranks.items())
    return f"{ranks.total()} ({parts})" if any(ranks) else str(ranks.total())


class Loaded:
    """A program in C."""

    def __init__(self, engine: Engine, program: Program) -> None:
        self.engine, self.program = engine, program
        if (program.rank, program.size) != (engine.rank, engine.size):
            at = f"rank {engine.rank} of {engine.size}"
            raise ProgramError(f"{at}: a program of rank {program.rank} of {program.size}")
        data, out, text = bytes(program), ffi.new("tc_program **"), ffi.new("char[]", lib.TC_TEXT_BYTES)
        status = lib.tc_program_load(data, len(data), out, text)
        if status != 0:
            reason = ffi.string(text).decode() or _text(status)
            raise ProgramError(f"program of rank {program.rank} of {program.size}: {reason}")
        self._program = ffi.gc(out[0], lib.tc_program_free)

    def size(self, counts: int | Sequence[int] | IntArray, itemsize: int) -> Sized:
        """Give the elements of every block of the vector (or of each of its blocks), of ``itemsize`` bytes.

        Raises ProgramError if there are not as many as blocks, or they are too large.
        """
        return Sized(self, counts, itemsize)


class Sized:
    """A program with its sizes."""

    def __init__(self, loaded: Loaded, counts: int | Sequence[int] | IntArray, itemsize: int) -> None:
        self.loaded, self.engine, self.itemsize = loaded, loaded.engine, itemsize
        blocks = [counts] if isinstance(counts, (int, np.integer)) else counts
        self._n = 0 if blocks is not counts else len(blocks)
        self._counts = np.ascontiguousarray(blocks if len(blocks) else [0], np.int64)  # C reads one if _n is 0
        self._idle: list[Handle] = [Handle(self)]
        needs = ffi.new("tc_needs *")
        lib.tc_run_needs(self._idle[0].run, needs)
        self.send_bytes, self.recv_bytes, self.memory_bytes = int(needs.send), int(needs.recv), int(needs.memory)

    def run(self, send: Bytes, recv: Bytes, op: MPI.Op = MPI.OP_NULL, datatype: MPI.Datatype = MPI.BYTE) -> None:
        """Run the program and wait for it; see :meth:`start`."""
        taken = self.take(send, recv, op, datatype)
        status = lib.tc_run_call(taken.run, ffi.from_buffer(send), ffi.from_buffer(recv), _SLICE)
        if status == 0:
            self.give_back(taken)
        else:
            self._started(taken, send, recv, status).wait()

    def start(self, send: Bytes, recv: Bytes, op: MPI.Op = MPI.OP_NULL, datatype: MPI.Datatype = MPI.BYTE) -> Run:
        """Start the program with the caller's buffers, which stay as they are until it is complete.

        Parameters
        ----------
        send, recv
            Memory of the roles, at least ``send_bytes`` and ``recv_bytes`` long. In place, ``send`` is that part of
            ``recv`` which holds the input.
        op, datatype
            Of a reduction: ``datatype`` has ``itemsize`` bytes.

        Raises
        ------
        BufferError
            If a buffer is too short.
        """
        taken = self.take(send, recv, op, datatype)
        status = lib.tc_run_start(taken.run, ffi.from_buffer(send), ffi.from_buffer(recv))
        return self._started(taken, send, recv, status)

    def _started(self, taken: Handle, send: Bytes, recv: Bytes, status: int) -> Run:
        return Run(self, taken, send, recv, status)

    def take(self, send: Bytes, recv: Bytes, op: MPI.Op, datatype: MPI.Datatype) -> Handle:
        """Return a run that is not under way, for these buffers. Raises BufferError as :meth:`start`."""
        if send.nbytes < self.send_bytes or recv.nbytes < self.recv_bytes:
            found = f"buffers of {send.nbytes} and {recv.nbytes} bytes"
            raise BufferError(
                f"rank {self.engine.rank}: {found}; the program needs {self.send_bytes} and {self.recv_bytes}"
            )
        return self.idle(op, datatype)

    def give_back(self, taken: Handle) -> None:
        """Keep a run that is complete for further calls."""
        self._idle.append(taken)

    def idle(self, op: MPI.Op, datatype: MPI.Datatype) -> Handle:
        """Return a run that is not under way, for these operands."""
        taken = self._idle.pop() if self._idle else Handle(self)
        if taken.op is not op or taken.datatype is not datatype:
            taken.combine_with(op, datatype)
        return taken


class Handle:
    """A run in C, started again and again, one call at a time."""

    def __init__(self, sized: Sized) -> None:
        engine, out = sized.engine, ffi.new("tc_run **")
        status = lib.tc_run_new(engine._comm, sized.loaded._program, out)
        if status == 0:
            self.run = ffi.gc(out[0], _free)
            counts = ffi.from_buffer("int64_t[]", sized._counts)
            status = lib.tc_run_sizes(self.run, counts, sized._n, sized.itemsize)
        if status != 0:
            raise ProgramError(
                f"rank {engine.rank}: {sized._n or 'equal'} block sizes of {sized.itemsize} bytes: {_text(status)}"
            )
        self.op: MPI.Op = MPI.OP_NULL
        self.datatype: MPI.Datatype = MPI.BYTE
        self.by_caller = True

    def combine_with(self, op: MPI.Op, datatype: MPI.Datatype) -> None:
        """Choose who combines."""
        choice = combiner(op, datatype)
        if lib.tc_run_operation(self.run, choice) != 0:
            raise Error("engine c: the operation of a run under way was to be changed")
        self.op, self.datatype, self.by_caller = op, datatype, choice.by == lib.TC_BY_CALLER


class Bound:
    """A run that C starts by itself, with :attr:`call`, and Python finishes where it does not end at once.

    Whoever has it is the only one to start the run, one call at a time.
    """

    call = int(ffi.cast("uintptr_t", ffi.addressof(lib, "tc_run_call")))
    """Address of the function that C calls with :attr:`state`, the addresses of both buffers and seconds."""

    def __init__(self, sized: Sized, op: MPI.Op, datatype: MPI.Datatype) -> None:
        self._sized, self._taken = sized, sized.idle(op, datatype)
        self.state = int(ffi.cast("uintptr_t", self._taken.run))

    def finish(self, status: int, send: int, recv: int) -> None:
        """Wait for a call that C started with buffers at these addresses. Raises what :meth:`Run.wait` raises.

        The run is the sized program's afterwards.
        """
        sized = self._sized
        buffers = (_memory(send, sized.send_bytes), _memory(recv, sized.recv_bytes))
        sized._started(self._taken, *buffers, status).wait()


def _memory(address: int, nbytes: int) -> Bytes:
    """Return the bytes at an address, which somebody else keeps."""
    return np.frombuffer(MPI.buffer.fromaddress(address, nbytes), np.uint8) if nbytes else np.empty(0, np.uint8)


class Run:
    """One call under way."""

    def __init__(self, sized: Sized, taken: Handle, send: Bytes, recv: Bytes, status: int) -> None:
        self._sized, self._engine, self._taken, self._status = sized, sized.engine, taken, status
        self._buffers = send, recv
        self._under_way = True
        self._error: BaseException | None = None
        self._said = False
        """Whether a rank was said to be stopped."""
        if taken.by_caller:
            self._engine._callers.append(self)

    def test(self) -> bool:
        """Tell whether the call is complete. Raises what :meth:`wait` raises."""
        if self._under_way:
            self._status = lib.tc_run_test(self._taken.run)
            if self._status == lib.TC_NEEDS_REDUCE:
                self._engine.combine()
            self._settle()
        return not self._under_way

    def wait(self) -> None:
        """Wait until the call is complete.

        A rank of this host that is stopped is named on standard error, once; it may go on.

        Raises
        ------
        LengthError
            If a message has another length than the program expects.
        Error
            If a rank that shares memory with this one has ended.
        mpi4py.MPI.Exception
            Whatever MPI raises.
        """
        look = time.monotonic() + _LOOK
        try:
            while self._under_way:
                if time.monotonic() >= look:
                    self._look()
                    look = time.monotonic() + _LOOK
                if self._status == lib.TC_NEEDS_REDUCE:
                    self._engine.combine()
                if self._status > 0:
                    self._status = lib.tc_run_wait(self._taken.run, _SLICE)
                self._settle()
        except BaseException:
            self._leave()
            raise

    def _look(self) -> None:
        """Look at the ranks that share memory with this one. Raises Error if one has ended within the call."""
        lost = ffi.new("tc_lost *")
        status = lib.tc_run_look(self._taken.run, lost)
        who = f"rank {self._engine.rank} waits for rank {lost.rank} (process {lost.pid} of this host)"
        if status == lib.TC_ERR_PEER_LOST:
            raise Error(f"{who}, which has ended; the call cannot be completed")
        if status == lib.TC_FULL and not self._said:
            self._said = True
            print(f"topocomm: {who}, which is stopped", file=sys.stderr, flush=True)

    def _settle(self) -> None:
        """End the call if it is complete or has failed."""
        if self._error is not None:
            raise self._error
        if self._status > 0:
            return
        self._end()
        if self._status < 0:
            if self._status != lib.TC_ERR_BUSY:
                self._engine._lost.append(self)
            raise self._failure()
        self._sized.give_back(self._taken)

    @property
    def error(self) -> BaseException | None:
        """What the program's own operation raised."""
        return self._error

    def leave_callers(self) -> None:
        """Combine nothing for this run any more."""
        self._end()

    def failed(self) -> Exception:
        """Return what ended the run, and keep its memory."""
        self._end()
        self._engine._lost.append(self)
        return self._failure()

    def _end(self) -> None:
        self._under_way = False
        if self in self._engine._callers:
            self._engine._callers.remove(self)

    def _leave(self) -> None:
        """Keep the memory of a call that is left under way, which MPI may still write to."""
        if self._under_way:
            self._end()
            self._engine._lost.append(self)

    def _combine(self) -> None:
        """Combine two operands, if this run needs it, and go on."""
        addresses, nbytes = ffi.new("uintptr_t[2]"), ffi.new("uint64_t *")
        if self._error is not None or lib.tc_run_operands(self._taken.run, addresses, addresses + 1, nbytes) != 0:
            return
        try:
            self._reduce_local(addresses[0], addresses[1], nbytes[0])
        except BaseException as e:
            self._error = e
            return
        lib.tc_run_reduced(self._taken.run)

    def _reduce_local(self, earlier: int, later: int, nbytes: int) -> None:
        op, datatype, itemsize = self._taken.op, self._taken.datatype, self._sized.itemsize
        for first in range(0, nbytes, _MOST * itemsize):
            size = min(_MOST * itemsize, nbytes - first)
            operands = (MPI.buffer.fromaddress(at + first, size) for at in (earlier, later))
            left, right = ([memory, size // itemsize, datatype] for memory in operands)
            op.Reduce_local(left, right)

    def _failure(self) -> Exception:
        failure = ffi.new("tc_failure *")
        lib.tc_run_failure(self._taken.run, failure)
        rank = self._engine.rank
        if self._status == lib.TC_ERR_LENGTH:
            message = f"a message {'to' if failure.sent else 'from'} rank {failure.peer}"
            return LengthError(f"rank {rank}: {message} has {failure.found} bytes, needs {failure.needed}; {_UNEQUAL}")
        if self._status == lib.TC_ERR_MPI and MPI.Get_error_class(failure.code) == MPI.ERR_TRUNCATE:
            message = f"a message from rank {failure.peer} has more than the {failure.needed} bytes needed"
            return LengthError(f"rank {rank}: {message}; {_UNEQUAL}")
        if self._status == lib.TC_ERR_MPI:
            return MPI.Exception(failure.code)
        return Error(f"rank {rank}: engine c, step {failure.step}: {_text(self._status)}")


def _free(
    run: Any, has_ended: Callable[[], bool] = MPI.Is_finalized, free: Callable[[Any], None] = lib.tc_run_free
) -> None:
    """Free a run, unless MPI has ended and would be asked for messages that were left behind.

    Names are bound as defaults: when the interpreter ends, this module may be emptied before the last run goes.
    """
    if not has_ended():
        free(run)


def _text(status: int) -> str:
    return str(ffi.string(lib.tc_status_text(status)).decode())
