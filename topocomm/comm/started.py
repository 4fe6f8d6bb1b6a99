"""Calls that are started and waited for later: which serves them, and the work that they are.

A non-blocking call must not wait for other ranks, so nothing is compared and nobody's choice is asked for: it is served
by the algorithm that is named (:meth:`~topocomm.comm.kinds.Kinds.local`), or by the MPI library. What carries its
messages must be there before. A persistent call may wait when it is made: it is chosen as a blocking one is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from topocomm.choose.rule import NATIVE, Decision
from topocomm.choose.shared import SHARED
from topocomm.collectives import COLLECTIVES
from topocomm.comm.call import Call, Read
from topocomm.comm.kinds import Kinds
from topocomm.comm.private import TAGS, Private
from topocomm.comm.programs import FIRST_TAG, KEPT_SIZES, Programs, buffers_of
from topocomm.comm.readers import ForLibraryError
from topocomm.comm.recent import Recent
from topocomm.comm.settings import Settings
from topocomm.comm.shared import Shared
from topocomm.engines import c, python
from topocomm.engines.carrier import Carrier
from topocomm.engines.node import NodeCall
from topocomm.engines.requests import End, NodeWork, PolledWork, ProgramWork, Queue, Work, end_queues, why_not
from topocomm.engines.walk import Sized
from topocomm.errors import AlgorithmError, BufferError

__all__ = ["Started"]

Reader = Callable[..., Read]


class Owner(Protocol):
    """The communicator whose calls they are."""

    rank: int
    settings: Settings
    private: Private
    programs: Programs
    shared: Shared
    kinds: Kinds

    def native_always(self, collective: str) -> bool:
        """Tell whether every call that names no algorithm is the MPI library's."""


class Started:
    """The calls of one communicator that are started and waited for later."""

    def __init__(self, runtime: Owner) -> None:
        self._runtime = runtime
        self._programs: Queue | None = None
        self._node: Queue | None = None
        self._polled: Queue | None = None
        self._noted: set[str] = set()
        self._sized: Recent[tuple[Call, bool, str], Sized | c.Sized] = Recent(KEPT_SIZES)
        """Programs with their sizes: not those of blocking calls, which ranks know or compare together."""

    def end(self) -> None:
        """Let no call start any more, before the communicator is freed; those under way go on."""
        queues = tuple(queue for queue in (self._programs, self._node, self._polled) if queue is not None)
        end_queues(queues, self._runtime.private.hold)

    # -- what serves a call ----------------------------------------------------------------------------------------

    def leaves(self, collective: str) -> bool:
        """Return True, and note it, if all non-blocking calls that name no algorithm are the MPI library's."""
        return not self._may_serve(collective, None, f"I{collective}", False)

    def nonblocking(self, reader: Reader, args: tuple[Any, ...]) -> Work | None:
        """Return the work of a non-blocking call; None if the MPI library serves it. Waits for nobody.

        Raises what the reader raises, AlgorithmError if the algorithm that the call names cannot serve it.
        """
        collective, runtime = reader.__name__, self._runtime
        if not self._may_serve(collective, args[-1], f"I{collective}", False):
            return None
        read = self._read(reader, args)
        if read is None:
            return None
        algorithm = runtime.kinds.local(read.call)
        if algorithm in (None, SHARED) or runtime.private.is_open:
            return None if algorithm is None else self._work(read, algorithm)
        if read.call.named is not None:
            raise AlgorithmError(
                f"I{collective} by {algorithm} on rank {runtime.rank}: nothing carries messages of this communicator "
                "yet; name an algorithm where its parent is wrapped, or make a blocking call by this algorithm before"
            )
        return None

    def persistent(self, reader: Reader, args: tuple[Any, ...]) -> Callable[[], Work] | None:
        """Return a function that gives the work of each start; None if the MPI library serves the call. Collective.

        Raises as :meth:`nonblocking`.
        """
        collective, runtime = reader.__name__, self._runtime
        maybe = runtime.shared.why_not is None or not runtime.native_always(collective)
        if not self._may_serve(collective, args[-1], f"{COLLECTIVES[collective].method}_init", maybe):
            return None
        read = self._read(reader, args)
        if read is None:
            return None
        algorithm = runtime.kinds.decision(read, lasting=True).algorithm
        if algorithm == NATIVE or (algorithm == SHARED and not self._goes_through_memory(read.call)):
            return None
        if read.call.collective == "reduce_scatter":  # the counts are known now
            args = (*args[:2], read.call.counts, *args[3:])
        return self._again(reader, args, read, algorithm)

    def _read(self, reader: Reader, args: tuple[Any, ...]) -> Read | None:
        """Return what the arguments say; None if only the MPI library can read them. Raises what the reader raises."""
        try:
            return reader(self._runtime, *args)
        except ForLibraryError:
            return None

    def _goes_through_memory(self, call: Call) -> bool:
        """Tell whether a call can go through memory of the host. Raises AlgorithmError if it cannot and names that."""
        reason = self._runtime.kinds.why_not_started(call)
        if reason is not None and call.named is not None:
            raise AlgorithmError(f"{reason} (named by the call)")
        return reason is None

    def _may_serve(self, collective: str, by_call: str | None, name: str, maybe: bool) -> bool:
        """Tell whether anything but the MPI library comes into question for a call, and note once if not.

        ``maybe``: also where no algorithm is named.
        """
        why, runtime = why_not(), self._runtime
        if by_call not in (None, NATIVE) and why is not None:
            raise AlgorithmError(f"{name} by {by_call} cannot go on by itself: {why}")
        named = by_call or runtime.settings.named.get(collective)
        if why is None and named != NATIVE and (named is not None or maybe):
            return True
        if name not in self._noted:
            self._noted.add(name)
            reason = f"named for {collective}" if named == NATIVE else why or "automatic: ours are taken by name"
            runtime.kinds.note(Decision(name, None, NATIVE, NATIVE, reason))
        return False

    def _again(self, reader: Reader, args: tuple[Any, ...], read: Read, algorithm: str) -> Callable[[], Work]:
        """Return what gives the work of each start: always the same where nothing of the call lies in a copy."""
        twin = reader(self._runtime, *args)
        here = [read.send.ctypes.data, read.recv.ctypes.data] == [twin.send.ctypes.data, twin.recv.ctypes.data]
        if here and read.recv.flags.writeable and _end_of(read) is None:
            work = self._work(read, algorithm, True)
            return lambda: work
        self._work(read, algorithm, True)  # the program, while all ranks are here
        return lambda: self._work(reader(self._runtime, *args), algorithm)

    # -- works -------------------------------------------------------------------------------------------------------

    def _work(self, read: Read, algorithm: str, waits: bool = False) -> Work:
        runtime = self._runtime
        if algorithm == SHARED:
            call = runtime.shared.known(read) or runtime.shared.make(read)
            assert isinstance(call, NodeCall)  # a larger one was left to the MPI library
            if self._node is None or self._node.node is not call.node:
                self._node = Queue(node=call.node)
            return NodeWork(self._node, call, buffers_of(read), _end_of(read))
        key = read.call, read.in_place, algorithm
        sized = self._sized.get(key)
        if sized is None:
            sized = self._sized.put(key, runtime.programs.sized(read, algorithm, runtime.private.open, waits))
        if isinstance(sized, c.Sized):
            if self._programs is None:
                self._programs = Queue(engine=sized.engine)
            return ProgramWork(self._programs, sized, buffers_of(read), read.op, read.datatype, _end_of(read))
        return PolledWork(self._polled_queue, _Turn(runtime.private.open(), sized, read).begin, _end_of(read))

    @property
    def _polled_queue(self) -> Queue:
        if self._polled is None:
            self._polled = Queue()
        return self._polled


class _Turns:
    """Runs of engine ``python`` over one carrier, each with a tag of its own."""

    def __init__(self) -> None:
        self._next = 0
        self.oldest = 0
        """The first that has not ended."""
        self._ended: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> int:
        """Return the number of a new run."""
        with self._lock:
            self._next += 1
            return self._next - 1

    def end(self, number: int) -> None:
        """Note that a run has ended."""
        with self._lock:
            self._ended.add(number)
            while self.oldest in self._ended:
                self._ended.remove(self.oldest)
                self.oldest += 1


class _Turn:
    """A run of engine ``python``: it begins when its tag is free."""

    def __init__(self, carrier: Carrier, sized: Sized, read: Read) -> None:
        self._carrier, self._sized, self._read = carrier, sized, read
        self._turns: _Turns = carrier.kept.setdefault(_Turns, _Turns())
        self._number = 0
        self._run: python.Run | None = None

    def begin(self) -> Callable[[], bool]:
        """Take a number; return what moves the run on."""
        self._number, self._run = self._turns.take(), None
        return self._move

    def _move(self) -> bool:
        if self._run is None:
            if self._turns.oldest + TAGS - FIRST_TAG <= self._number:
                return False
            self._run = self._start()
        if not self._run.test():
            return False
        self._turns.end(self._number)
        return True

    def _start(self) -> python.Run:
        carrier, sized, read = self._carrier, self._sized, self._read
        own = Carrier(carrier.comm, carrier.ranks, carrier.tag + FIRST_TAG + self._number % (TAGS - FIRST_TAG))
        regions = (*buffers_of(read), *python.memory_of(sized))
        return python.start(own, sized, regions, read.op, read.datatype, read.call.itemsize)


def _end_of(read: Read) -> End:
    """Return what is left to do when a call is complete; None: nothing."""
    if not read.fault and (read.result is None or read.result.put_back is None):
        return None

    def end() -> None:
        if read.result is not None:
            read.result.deliver()
        if read.fault:
            raise BufferError(read.fault)

    return end
