"""Exact traffic of a schedule: which message crosses which level of a machine, with how many bytes.

First all messages of all ranks are listed once (:func:`list_messages`), as flat arrays; then any number of
topologies is asked where they go (:class:`Traffic`). Sizes are whole numbers, bytes or blocks as the caller counts
them, and sums are exact; in units of the vector they are fractions.

>>> from topocomm.algorithms import make_schedule
>>> from topocomm.topology import groups_of
>>> machine = groups_of([3, 5])
>>> traffic = Traffic(list_messages(make_schedule("allreduce", "rabenseifner", machine)), machine)
>>> traffic.between("group")
Fraction(2, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.errors import ScheduleError, TopologyError
from topocomm.schedule import RankSchedule, Schedule
from topocomm.schedule.transfers import Messages, sum_by
from topocomm.topology import Topology

__all__ = ["Pairs", "Traffic", "list_messages"]


class _Sizes:
    """The bytes of the slots of a rank."""

    def __init__(
        self, schedule: Schedule, parts: Sequence[RankSchedule], counts: int | Sequence[int] | IntArray
    ) -> None:
        self.schedule = schedule
        self.nblocks = max(max(len(part.load), len(part.store)) for part in parts)
        pieces = schedule.pieces
        cut = None if isinstance(counts, int) else np.asarray(counts, np.int64)[:, None] * np.arange(pieces + 1)
        self.counts = None if cut is None else np.diff(cut // pieces).reshape(-1)
        self.each = counts if isinstance(counts, int) else 0
        if self.counts is None:
            self.vector = self.nblocks * self.each
            return
        if schedule.collective == "alltoall" or len(self.counts) != self.nblocks:
            needs = (
                "blocks of one size" if schedule.collective == "alltoall" else f"{self.nblocks // pieces} block sizes"
            )
            raise ScheduleError(
                f"{schedule.collective} {schedule.algorithm} needs {needs}, got {len(self.counts) // pieces}"
            )
        self.vector = int(self.counts.sum())
        self.at_root = parts[schedule.root]

    def of(self, part: RankSchedule) -> IntArray | None:
        """Bytes of every slot of the rank with this part; None if all have the same."""
        if self.counts is None:
            return None
        for slots in (part.load, part.store, self.at_root.load, self.at_root.store):
            if len(slots) == self.nblocks:
                sizes = np.zeros(self.schedule.nslots, np.int64)
                sizes[np.asarray(slots, np.int64)] = self.counts
                return sizes
        raise ScheduleError(f"{self.schedule.collective} {self.schedule.algorithm}: no rank holds the whole vector")


def list_messages(schedule: Schedule, counts: int | Sequence[int] | IntArray = 1) -> Messages:
    """All messages of a schedule. ``counts`` are the bytes of a slot (a block, where blocks are not cut into
    pieces), or of each block of the vector if they differ.

    A rank's messages to itself are copies and left out. Raises ScheduleError if ``counts`` do not fit.
    """
    parts = [schedule.part(r) for r in range(schedule.size)]
    sizes = _Sizes(schedule, parts, counts)
    rows: list[tuple[int, int, int, int, int]] = []
    for rank, part in enumerate(parts):
        of_slot = sizes.of(part)
        for i, rnd in enumerate(part.rounds):
            for s in rnd.sends:
                if s.peer != rank:
                    blocks = len(s.slots)
                    nbytes = blocks * sizes.each if of_slot is None else int(of_slot[np.asarray(s.slots)].sum())
                    rows.append((i, rank, s.peer, blocks, nbytes))
    table = np.array(rows, np.int64).reshape(-1, 5).T
    return Messages(schedule.size, sizes.vector, *table)


@dataclass(frozen=True)
class Pairs:
    """What each directed pair of places carries: only pairs that carry a message, ascending."""

    source: IntArray
    target: IntArray
    nbytes: IntArray
    messages: IntArray


class Traffic:
    """Where messages go on a machine.

    A message is *between* the places of a level if sender and receiver sit in different ones, and it *crosses* one
    level: the outermost at which they do. Raises TopologyError if the topology has another number of ranks.
    """

    def __init__(self, messages: Messages, topology: Topology) -> None:
        if messages.size != topology.size:
            raise TopologyError(f"the schedule has {messages.size} ranks, the topology {topology.size}")
        self.messages = messages
        self.topology = topology

    def fraction(self, nbytes: int) -> Fraction:
        """Bytes in units of the vector (0 where the vector has none)."""
        return Fraction(int(nbytes), self.messages.vector) if self.messages.vector else Fraction(0)

    @cached_property
    def crossed(self) -> IntArray:
        """For each message the index of the level that it crosses; the number of levels if it crosses none."""
        places, m = self.topology.places, self.messages
        out = np.full(len(m), len(self.topology.levels), np.int64)
        for level in reversed(range(len(self.topology.levels))):
            out[places[m.source, level] != places[m.target, level]] = level
        return out

    def between_mask(self, level: str) -> npt.NDArray[np.bool_]:
        """Which messages run between places of ``level``."""
        return self.crossed <= self.topology.level_index(level)

    def bytes_between(self, level: str) -> int:
        """Bytes between places of ``level``, all pairs together."""
        return int(self.messages.nbytes[self.between_mask(level)].sum())

    def between(self, level: str) -> Fraction:
        """The same in units of the vector."""
        return self.fraction(self.bytes_between(level))

    def messages_between(self, level: str) -> int:
        """The number of messages between places of ``level``."""
        return int(self.between_mask(level).sum())

    def crossing(self) -> dict[str | None, tuple[int, int]]:
        """Level → (bytes, messages) of what crosses just it; None: what stays inside the innermost places."""
        names: tuple[str | None, ...] = (*self.topology.levels, None)
        nbytes = sum_by(self.crossed, self.messages.nbytes, len(names))
        count = np.bincount(self.crossed, minlength=len(names))
        return {name: (int(b), int(c)) for name, b, c in zip(names, nbytes, count, strict=True)}

    def _places(self, level: str) -> tuple[Messages, IntArray, IntArray, int]:
        """The messages between places of a level, their places, and how many places there are."""
        column = self.topology.places[:, self.topology.level_index(level)]
        m = self.messages.where(self.between_mask(level))
        return m, column[m.source], column[m.target], int(column.max()) + 1

    def pairs(self, level: str) -> Pairs:
        """What every directed pair of places carries."""
        m, source, target, places = self._places(level)
        keys, which = np.unique(source * places + target, return_inverse=True)
        nbytes = sum_by(which, m.nbytes, len(keys))
        return Pairs(keys // places, keys % places, nbytes, np.bincount(which, minlength=len(keys)))

    def egress(self, level: str) -> IntArray:
        """Bytes that leave each place of ``level``."""
        m, source, _, places = self._places(level)
        return sum_by(source, m.nbytes, places)

    def ingress(self, level: str) -> IntArray:
        """Bytes that enter each place of ``level``."""
        m, _, target, places = self._places(level)
        return sum_by(target, m.nbytes, places)

    def busiest_place(self, level: str) -> Fraction:
        """The most that leaves or enters one place of ``level``, in units of the vector."""
        return self.fraction(max(self.egress(level).max(), self.ingress(level).max()))

    def busiest_pair(self, level: str) -> Fraction:
        """The most that one directed pair of places of ``level`` carries, in units of the vector."""
        return self.fraction(self.pairs(level).nbytes.max(initial=0))
