"""All messages of a schedule as flat arrays, with the round of either end: what the time model works on.

:func:`list_transfers` reads any schedule, rank by rank. Algorithms of the table list theirs for all ranks at once
(:mod:`topocomm.schedule.bulk`), so that tens of thousands of ranks take a second. A test compares the two for every
algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.errors import ScheduleError
from topocomm.schedule.rounds import Schedule

__all__ = ["Messages", "Transfers", "chain", "list_transfers", "sum_by"]


def sum_by(index: IntArray, values: IntArray, count: int) -> IntArray:
    """Add up ``values`` by ``index``: an array of ``count`` sums."""
    out = np.zeros(count, np.int64)
    np.add.at(out, index, values)
    return out


@dataclass(frozen=True)
class Messages:
    """All messages between different ranks, one entry each, sender by sender in the order of its rounds.

    ``round`` counts the sender's rounds; ``blocks`` are the blocks in a message and ``nbytes`` their bytes;
    ``vector`` is what a whole vector has: the result of an allgather or gather, the input of a reduction, broadcast
    or scatter, and all a rank sends in an all-to-all.
    """

    size: int
    vector: int
    round: IntArray
    source: IntArray
    target: IntArray
    blocks: IntArray
    nbytes: IntArray

    def __len__(self) -> int:
        return len(self.source)

    def where(self, mask: npt.NDArray[np.bool_]) -> Messages:
        """Return only the messages that ``mask`` picks."""
        picked = (a[mask] for a in (self.round, self.source, self.target, self.blocks, self.nbytes))
        return Messages(self.size, self.vector, *picked)

    def sent(self) -> IntArray:
        """Sum up the bytes that every rank sends."""
        return sum_by(self.source, self.nbytes, self.size)

    def received(self) -> IntArray:
        """Sum up the bytes that every rank receives."""
        return sum_by(self.target, self.nbytes, self.size)


@dataclass(frozen=True)
class Transfers:
    """Messages between different ranks, one entry each.

    ``send_round`` and ``recv_round`` only order the rounds of a rank; they need not be consecutive. An entry may stand
    for ``repeat`` equal messages in as many rounds; ``blocks`` is the sum over them, in units of 1/``vector`` of the
    vector. ``sample``: fewer entries that stand for all of them, for time where there are very many.
    """

    size: int
    vector: int
    source: IntArray
    target: IntArray
    send_round: IntArray
    recv_round: IntArray
    blocks: IntArray
    repeat: IntArray
    sample: Transfers | None = None
    exact: bool = True
    """Whether bytes per pair of ranks are exact (not where entries are left out)."""

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def nodes(self) -> tuple[IntArray, IntArray, IntArray]:
        """The rounds of all ranks that hold a message, rank by rank in order: the rank of each, and for each entry the
        one that sends it and the one that receives it."""
        width = self.last_round + 1
        keys = np.concatenate((self.source * width + self.send_round, self.target * width + self.recv_round))
        known, which = np.unique(keys, return_inverse=True)
        return known // width, which[: len(self)], which[len(self) :]

    @cached_property
    def rounds(self) -> int:
        """The largest number of rounds of a rank in which it sends or receives."""
        if self.sample:
            return self.sample.rounds
        rank, sender, receiver = self.nodes
        times = np.zeros(len(rank), np.int64)
        times[sender] = self.repeat
        times[receiver] = self.repeat
        return int(np.bincount(rank, weights=times, minlength=1).max())

    @property
    def messages(self) -> int:
        """The number of messages that the entries stand for."""
        return int(self.repeat.sum())

    def as_messages(self) -> Messages:
        """Return them as :class:`topocomm.model.traffic.Traffic` takes them; sizes in blocks."""
        return Messages(self.size, self.vector, self.send_round, self.source, self.target, self.blocks, self.blocks)

    def reversed(self) -> Transfers:
        """Reverse in time: the last round first, receivers send."""
        last = self.last_round
        return replace(
            self,
            sample=self.sample.reversed() if self.sample else None,
            source=self.target,
            target=self.source,
            send_round=last - self.recv_round,
            recv_round=last - self.send_round,
        )

    @property
    def last_round(self) -> int:
        """The highest number of a round."""
        return int(max(self.send_round.max(initial=0), self.recv_round.max(initial=0)))

    def relabelled(self, ranks: IntArray) -> Transfers:
        """Rename rank i to ``ranks[i]``."""
        sample = self.sample.relabelled(ranks) if self.sample else None
        return replace(self, source=ranks[self.source], target=ranks[self.target], sample=sample)

    def scaled(self, vector: int) -> Transfers:
        """Count the vector as ``vector`` blocks, a multiple of before."""
        return replace(self, vector=vector, blocks=self.blocks * (vector // max(self.vector, 1)))


def chain(*parts: Transfers) -> Transfers:
    """Join lists one after the other, rank by rank; vectors of one block are cut to match the others."""
    vector = max(part.vector for part in parts)

    def join(a: Transfers, b: Transfers) -> Transfers:
        shift = a.last_round + 1
        return Transfers(
            a.size,
            vector,
            np.concatenate((a.source, b.source)),
            np.concatenate((a.target, b.target)),
            np.concatenate((a.send_round, b.send_round + shift)),
            np.concatenate((a.recv_round, b.recv_round + shift)),
            np.concatenate((a.blocks, b.blocks)),
            np.concatenate((a.repeat, b.repeat)),
        )

    return reduce(join, [part.scaled(vector) for part in parts])


def list_transfers(schedule: Schedule) -> Transfers:
    """List all messages of any schedule. Raises ScheduleError if sends and receives do not match."""
    sends: list[tuple[int, int, int, int]] = []
    recvs: list[tuple[int, int, int, int]] = []
    nblocks = 0
    for rank in range(schedule.size):
        part = schedule.part(rank)
        nblocks = max(nblocks, len(part.load), len(part.store))
        for i, rnd in enumerate(part.rounds):
            sends += [(rank, s.peer, i, len(s.slots)) for s in rnd.sends if s.peer != rank]
            recvs += [(r.peer, rank, i, len(r.slots)) for r in rnd.recvs if r.peer != rank]
    a, b = (np.array(rows, np.int64).reshape(-1, 4) for rows in (sends, recvs))
    if a.shape != b.shape:
        raise ScheduleError(f"{schedule.collective} {schedule.algorithm}: {len(a)} sends, but {len(b)} receives")
    b = b[np.lexsort((np.arange(len(b)), b[:, 1], b[:, 0]))]
    back = np.lexsort((np.arange(len(a)), a[:, 1], a[:, 0]))
    if (a[back][:, [0, 1, 3]] != b[:, [0, 1, 3]]).any():
        raise ScheduleError(f"{schedule.collective} {schedule.algorithm}: sends and receives do not match")
    recv_round = np.empty(len(a), np.int64)
    recv_round[back] = b[:, 2]
    ones = np.ones(len(a), np.int64)
    return Transfers(schedule.size, nblocks, a[:, 0], a[:, 1], a[:, 2], recv_round, a[:, 3], ones)
