"""Schedules and plans that a communicator has made, and running them. The only place that makes or runs a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from topocomm.algorithms import make_schedule
from topocomm.arrays import Bytes, IntArray
from topocomm.collectives import COLLECTIVES
from topocomm.comm.call import Call, Read
from topocomm.comm.recent import Recent
from topocomm.engines import p2p
from topocomm.plan import Plan, block_cuts, make_plan
from topocomm.schedule import Schedule
from topocomm.topology import Topology

__all__ = ["KEPT", "MOST_PLANS", "MOST_SCHEDULES", "Programs", "Scratch"]

MOST_SCHEDULES, MOST_PLANS = 64, 256
"""Schedules (by collective, algorithm, root and order) and plans (by call) that a communicator remembers."""
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
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        return memory if len(memory) >= nbytes else np.empty(nbytes, np.uint8)

    def give_back(self, memory: Bytes) -> None:
        """End the use of memory that was taken."""
        if len(memory) + self.kept <= self.most:
            self._free.append(memory)


_scratch = Scratch()


class _Key(NamedTuple):
    collective: str
    algorithm: str
    root: int
    ordered: bool


def _block_counts(call: Call, schedule: Schedule) -> int | Sequence[int] | IntArray:
    """Elements of the blocks into which the schedule cuts the call's vector."""
    if isinstance(call.counts, tuple) or COLLECTIVES[call.collective].counts_block:
        return call.counts
    return np.diff(block_cuts(call.counts, schedule.nslots))


class Programs:
    """The schedules and plans of one rank of a communicator."""

    def __init__(self, rank: int, topology: Callable[[], Topology]) -> None:
        self.rank = rank
        self._topology = topology
        self._schedules: Recent[_Key, Schedule] = Recent(MOST_SCHEDULES)
        self._plans: Recent[tuple[Call, bool], Plan] = Recent(MOST_PLANS)

    def schedule(self, call: Call, algorithm: str) -> Schedule:
        """The schedule for a call. Raises AlgorithmError if the algorithm cannot serve it."""
        key = _Key(call.collective, algorithm, call.root, not call.traits.commutative)
        found = self._schedules.get(key)
        if found is None:
            found = self._schedules.put(key, make_schedule(key.collective, algorithm, self._topology(), *key[2:]))
        return found

    def known(self, read: Read) -> Plan | None:
        """The plan of a call seen before, if it is still there."""
        return self._plans.get((read.call, read.in_place))

    def plan(self, read: Read, algorithm: str) -> Plan:
        """Make the plan of a call by ``algorithm``."""
        call, schedule = read.call, self.schedule(read.call, algorithm)
        plan = make_plan(schedule, self.rank, _block_counts(call, schedule), call.itemsize, read.in_place)
        return self._plans.put((call, read.in_place), plan)

    def run(self, carrier: p2p.Carrier, plan: Plan, read: Read) -> None:
        """Run a plan on the memory of a call."""
        send, recv = read.send, read.recv
        if not recv.flags.writeable:  # of a broadcast's root, whose own blocks a schedule may write once more
            send = recv = recv.copy()
        scratch = _scratch.take(plan.scratch_bytes)
        try:
            p2p.run(carrier, plan, (send, recv, scratch), read.op, read.datatype)
        finally:
            _scratch.give_back(scratch)
