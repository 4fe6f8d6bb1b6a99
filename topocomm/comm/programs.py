"""Schedules and programs that a communicator has made, and running them. Nothing else makes or runs one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from topocomm.arrays import Bytes, IntArray
from topocomm.collectives import COLLECTIVES
from topocomm.comm.buffers import EMPTY
from topocomm.comm.call import Call, Read
from topocomm.comm.private import TAGS
from topocomm.comm.recent import Recent

if TYPE_CHECKING:
    from topocomm.engines import c, python
    from topocomm.engines.walk import Loaded, Sized
    from topocomm.plan.program import Program
    from topocomm.schedule import Schedule
    from topocomm.topology import Topology

__all__ = ["FIRST_TAG", "KEPT", "KEPT_SIZES", "MOST_PROGRAMS", "OPENING_TAG", "Programs", "Scratch", "buffers_of"]

MOST_PROGRAMS, KEPT_SIZES = 64, 256
"""Programs (by collective, algorithm, root, order and place) and sizes of them (by call) that a communicator keeps."""
OPENING_TAG, FIRST_TAG = 4, 5
"""Tags of a carrier: of what opens channels for puts; from here on for runs in C. Those before are for the Python
engine and for comparing calls."""
KEPT = 1 << 25
"""Bytes of scratch memory that a process keeps between calls, for all communicators together."""


class Scratch:
    """Scratch memory of a process: a call takes what it needs and gives it back; at most ``most`` bytes are kept.

    Calls of several threads, on different communicators, take different memory.
    """

    def __init__(self, most: int = KEPT) -> None:
        self.most = most
        self._free: list[Bytes] = []

    @property
    def kept(self) -> int:
        """Bytes that are kept, not in use."""
        return sum(map(len, self._free))

    def take(self, nbytes: int) -> Bytes:
        """At least ``nbytes`` bytes, not in use."""
        if not nbytes:
            return EMPTY
        try:
            memory = self._free.pop()
        except IndexError:
            memory = EMPTY
        return memory if len(memory) >= nbytes else np.empty(nbytes, np.uint8)

    def give_back(self, memory: Bytes) -> None:
        """End the use of memory that was taken."""
        if len(memory) and len(memory) + self.kept <= self.most:
            self._free.append(memory)


_scratch = Scratch()


class _Key(NamedTuple):
    collective: str
    algorithm: str
    root: int
    ordered: bool


def _block_counts(call: Call, nslots: int) -> int | Sequence[int] | IntArray:
    """Return the elements of each block into which a schedule of ``nslots`` slots cuts the call's vector."""
    if isinstance(call.counts, tuple) or COLLECTIVES[call.collective].equal_slots:
        return call.counts
    from topocomm.schedule.blocks import block_cuts

    return np.diff(block_cuts(call.counts, nslots))


class Programs:
    """The schedules and programs of one rank of a communicator."""

    def __init__(
        self,
        rank: int,
        topology: Callable[[], Topology],
        engine: str,
        transports: tuple[str, ...],
        share: Callable[[c.Engine, bool], object],
    ) -> None:
        self.rank = rank
        self._transports, self._share = transports, share
        self._topology = topology
        self._name = engine
        self._engine: c.Engine | None = None
        self._schedules: Recent[_Key, Schedule] = Recent(MOST_PROGRAMS)
        self._loaded: Recent[tuple[_Key, bool], Loaded | c.Loaded] = Recent(MOST_PROGRAMS)
        self._sized: Recent[tuple[Call, bool], Sized | c.Sized] = Recent(KEPT_SIZES)

    def schedule(self, call: Call, algorithm: str) -> Schedule:
        """Return the schedule for a call. Raises AlgorithmError if the algorithm cannot serve it."""
        key = _key(call, algorithm)
        found = self._schedules.get(key)
        if found is None:
            from topocomm.algorithms import make_schedule

            found = self._schedules.put(key, make_schedule(key.collective, algorithm, self._topology(), *key[2:]))
        return found

    def known(self, read: Read) -> Sized | c.Sized | None:
        """Return the program of a call seen before with its sizes, if it is still there."""
        return self._sized.get((read.call, read.in_place))

    def make(self, read: Read, algorithm: str, carrier: Callable[[], python.Carrier]) -> Sized | c.Sized:
        """Return the program of a call by ``algorithm``, known from now on. The first is made by all ranks."""
        return self._sized.put((read.call, read.in_place), self.sized(read, algorithm, carrier))

    def sized(
        self, read: Read, algorithm: str, carrier: Callable[[], python.Carrier], waits: bool = True
    ) -> Sized | c.Sized:
        """Return the program of a call by ``algorithm``, with the sizes of the call.

        ``waits``: the first program may wait for the other ranks, all of which are here; else its messages, and those
        of all programs after it, go by what needs no such wait.
        """
        call, key = read.call, (_key(read.call, algorithm), read.in_place)
        loaded = self._loaded.get(key)
        if loaded is None:
            program = self._program(call, algorithm, read.in_place)
            loaded = self._loaded.put(key, self._load(program, carrier, waits))
        return loaded.size(_block_counts(call, loaded.program.nslots), call.itemsize)

    def _program(self, call: Call, algorithm: str, in_place: bool) -> Program:
        from topocomm.plan.bind import bind

        return bind(self.schedule(call, algorithm), self.rank, in_place)

    def arrivals(self, call: Call, algorithm: str) -> str:
        """Return, in words, into what the messages to this rank of a call by ``algorithm`` are received."""
        direct, landing = self._program(call, algorithm, False).arrivals
        return f"{direct} messages to this rank straight into place, {landing} into landings"

    def _load(self, program: Program, carrier: Callable[[], python.Carrier], waits: bool) -> Loaded | c.Loaded:
        if self._name == "python":
            from topocomm.engines import python

            return python.load(program)
        if self._engine is None:
            self._engine = self._engine_of(carrier(), waits)
        return self._engine.load(program)

    def _engine_of(self, carrier: python.Carrier, waits: bool) -> c.Engine:
        """Return the engine over a carrier: one for all that wrap a communicator, as they have the same tags."""
        from topocomm.engines import c

        found = carrier.kept.get(self._transports)
        if found is None:
            tags = TAGS - FIRST_TAG
            found = c.Engine(carrier.comm, ranks=carrier.ranks, first_tag=carrier.tag + FIRST_TAG, tags=tags)
            self._share(found, waits)
            carrier.kept[self._transports] = found
        engine: c.Engine = found
        return engine

    @property
    def engine(self) -> c.Engine | None:
        """The engine ``c`` of this communicator, from the first program on."""
        return self._engine

    @property
    def carried(self) -> str:
        """What carries messages to the other ranks so far, by level, in words; empty before the first program."""
        if self._engine is None:
            return ""
        return self._engine.carried(lambda rank: self._topology().meet(self.rank, rank))

    def run(self, carrier: python.Carrier, sized: Sized | c.Sized, read: Read) -> None:
        """Run a program on the memory of a call."""
        send, recv = buffers_of(read)
        if self._engine is not None:
            cast("c.Sized", sized).run(send, recv, read.op, read.datatype)
        else:
            self._walk(carrier, cast("Sized", sized), send, recv, read)

    @staticmethod
    def _walk(carrier: python.Carrier, sized: Sized, send: Bytes, recv: Bytes, read: Read) -> None:
        from topocomm.engines import python

        cut, end = sized.scratch_bytes, sized.scratch_bytes + sized.own_bytes
        scratch = _scratch.take(end)
        try:
            regions = send, recv, scratch[:cut], scratch[cut:end]
            python.start(carrier, sized, regions, read.op, read.datatype, read.call.itemsize).wait()
        finally:
            _scratch.give_back(scratch)


def buffers_of(read: Read) -> tuple[Bytes, Bytes]:
    """Return memory for a program's roles: the call's, or a copy of what a broadcast's root may not write."""
    if read.recv.flags.writeable:
        return read.send, read.recv
    copy = read.recv.copy()  # a schedule may write the root's own blocks once more
    return copy, copy


def _key(call: Call, algorithm: str) -> _Key:
    return _Key(call.collective, algorithm, call.root, not call.traits.commutative)
