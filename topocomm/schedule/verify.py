"""Prove a schedule without running it: by symbolic execution of all ranks.

Every slot holds an expression (:mod:`topocomm.schedule.proving`). All ranks run at once, and a send blocks until its
receive is posted, so that what passes here cannot deadlock under any MPI. The verifier shows that

* sends and receives match, in number, order and size, and every rank finishes;
* no round overwrites a slot that it sends or receives otherwise, and nothing is sent or combined before it exists;
* no rank combines a message of its own, which no engine does;
* every output holds every required contribution exactly once, of the right block;
* the operands stand in the order of ranks, where the schedule claims that;
* all ranks of an allreduce evaluate the same expression, so that they get the same bits.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from topocomm.arrays import IntArray
from topocomm.errors import ScheduleError
from topocomm.schedule.proving import NOTHING, Expressions, Outcome, check_results
from topocomm.schedule.rounds import Combine, RankSchedule, Recv, Round, Schedule, Send, Slots

__all__ = ["Proof", "verify"]


class Proof(NamedTuple):
    """What was proved: of so many ranks, and with so many messages of so many blocks in all."""

    ranks: int
    messages: int
    blocks: int


class _Rank:
    """What one rank holds and where it is."""

    def __init__(self, number: int, part: RankSchedule, nslots: int) -> None:
        self.number = number
        self.part = part
        self.slots = np.full(nslots, NOTHING, np.int64)
        self.round = -1
        self.open = 0
        self.arrived: list[IntArray | None] = []
        self.heard = 1 << number  # for the barrier: of whose arrival this rank knows

    @property
    def current(self) -> Round:
        return self.part.rounds[self.round]


def _index(slots: Slots) -> IntArray:
    return np.asarray(slots, np.int64)


def _where(slots: Slots) -> slice | IntArray:
    """What indexes an array at ``slots``: a slice if that can be, which is faster."""
    return slice(slots.start, slots.stop, slots.step) if isinstance(slots, range) and slots.step > 0 else _index(slots)


def _apart(a: Slots, b: Slots) -> bool:
    """Whether two runs are seen at once to share no slot."""
    if not (isinstance(a, range) and isinstance(b, range) and a.step > 0 and b.step > 0):
        return False
    return a.stop <= b.start or b.stop <= a.start


def _overwrites(rnd: Round) -> bool:
    """Tell whether a received message may come over a slot that the round receives otherwise, or sends."""
    sent = set[int]().union(*(_listed(s.slots) for s in rnd.sends))
    received = [slot for r in rnd.recvs for slot in _listed(r.slots)]
    return len(set(received)) < len(received) or not sent.isdisjoint(received)


def _listed(slots: Slots) -> Sequence[int]:
    return slots if isinstance(slots, range) else slots.tolist()


def _lowest(values: IntArray) -> int:
    """Find the least value; NumPy's call costs more than a few values."""
    return min(values.tolist()) if len(values) < 50 else int(values.min())


class _Run:
    """All ranks of a schedule in symbolic execution."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.ranks = [_Rank(r, schedule.part(r), schedule.nslots) for r in range(schedule.size)]
        self.expressions = Expressions(schedule.size, max(1, *(len(rank.part.load) for rank in self.ranks)))
        self.messages = self.blocks = 0
        self.sends: dict[tuple[int, int], deque[tuple[int, int, IntArray, int]]] = defaultdict(deque)
        self.recvs: dict[tuple[int, int], deque[tuple[int, int]]] = defaultdict(deque)

    def fail(self, rank: int, message: str, rnd: int | None = None) -> ScheduleError:
        s = self.schedule
        at = "" if rnd is None else f", round {rnd}"
        return ScheduleError(f"{s.collective} {s.algorithm}, {s.size} ranks: rank {rank}{at}: {message}")

    # -- structure

    def check_structure(self, rank: _Rank) -> None:
        for what, slots in (("loads", rank.part.load), ("stores", rank.part.store)):
            self._check_slots(rank.number, what, slots, None)
        for i, rnd in enumerate(rank.part.rounds):
            self._check_round(rank.number, i, rnd)

    def _check_slots(self, rank: int, what: str, slots: Slots, rnd: int | None) -> None:
        if isinstance(slots, range) and slots.step == 1 and slots.start >= 0 and slots.stop <= self.schedule.nslots:
            return
        low, high = (0, -1) if len(slots) == 0 else (int(min(slots[0], slots[-1])), int(max(slots[0], slots[-1])))
        if not isinstance(slots, range) and len(slots):
            low, high = int(slots.min()), int(slots.max())
            if len(np.unique(slots)) != len(slots):
                raise self.fail(rank, f"{what} a slot twice", rnd)
        if low < 0 or high >= self.schedule.nslots:
            raise self.fail(rank, f"{what} slot {low if low < 0 else high}; there are {self.schedule.nslots}", rnd)

    def _check_round(self, rank: int, i: int, rnd: Round) -> None:
        ops: Sequence[Send | Recv] = (*rnd.sends, *rnd.recvs)
        size = self.schedule.size
        for op in ops:
            if not 0 <= op.peer < size:
                raise self.fail(rank, f"peer {op.peer} is not a rank", i)
        for s in rnd.sends:
            self._check_slots(rank, "sends", s.slots, i)
        for r in rnd.recvs:
            self._check_slots(rank, "receives", r.slots, i)
            if r.peer == rank and r.combine is not Combine.REPLACE:
                raise self.fail(rank, "combines a message of its own; send it to another rank, or replace", i)
        plain = [r for r in rnd.recvs if r.combine is Combine.REPLACE and len(r.slots)]
        if not plain or (len(ops) == 2 and rnd.sends and _apart(rnd.sends[0].slots, plain[0].slots)):
            return
        if not _overwrites(rnd):
            return
        use = np.zeros(self.schedule.nslots, np.int64)
        for s in rnd.sends:  # two sends may share a slot; that is no reason to object
            use[_index(s.slots)] = 1
        for r in rnd.recvs:
            use[_index(r.slots)] += 1
        for r in plain:
            index = _index(r.slots)
            if (use[index] > 1).any():
                slot = index[use[index] > 1][0]
                raise self.fail(rank, f"the message from {r.peer} overwrites slot {slot} while it is in use", i)

    # -- progress

    def run(self) -> None:
        for rank in self.ranks:
            self.check_structure(rank)
            rank.slots[_where(rank.part.load)] = self.expressions.leaves(rank.number, len(rank.part.load))
        self.ready = deque(self.ranks)
        while self.ready:
            self._next_round(self.ready.popleft())
        self._check_finished()

    def _next_round(self, rank: _Rank) -> None:
        rank.round += 1
        if rank.round >= len(rank.part.rounds):
            return
        rnd = rank.current
        rank.open = len(rnd.sends) + len(rnd.recvs)
        rank.arrived = [None] * len(rnd.recvs)
        for s in rnd.sends:
            content = rank.slots[_where(s.slots)].copy()
            if len(content) and _lowest(content) == NOTHING:
                slot = _index(s.slots)[content == NOTHING][0]
                raise self.fail(rank.number, f"sends slot {slot} to {s.peer}, but it holds nothing yet", rank.round)
            self.sends[rank.number, s.peer].append((rank.number, rank.round, content, rank.heard))
            self._match(rank.number, s.peer)
        for i, r in enumerate(rnd.recvs):
            self.recvs[r.peer, rank.number].append((rank.round, i))
            self._match(r.peer, rank.number)
        if not (rnd.sends or rnd.recvs):
            self.ready.append(rank)

    def _match(self, source: int, target: int) -> None:
        sends, recvs = self.sends[source, target], self.recvs[source, target]
        if not (sends and recvs):
            return
        _, sent_in, content, heard = sends.popleft()
        rnd, i = recvs.popleft()
        receiver, sender = self.ranks[target], self.ranks[source]
        want = len(receiver.part.rounds[rnd].recvs[i].slots)
        if want != len(content):
            raise self.fail(
                target, f"expects {want} blocks from {source}, which sends {len(content)} in its round {sent_in}", rnd
            )
        self.messages += 1
        self.blocks += want
        receiver.arrived[i] = content
        receiver.heard |= heard
        for rank in (sender, receiver):
            rank.open -= 1
            if rank.open == 0:
                self._finish_round(rank)

    def _finish_round(self, rank: _Rank) -> None:
        for r, content in zip(rank.current.recvs, rank.arrived, strict=True):
            assert content is not None
            index = _where(r.slots)
            replace = r.combine is Combine.REPLACE
            rank.slots[index] = content if replace else self._combined(rank, r, rank.slots[index], content)
        self.ready.append(rank)

    def _combined(self, rank: _Rank, r: Recv, held: IntArray, content: IntArray) -> IntArray:
        if len(held) and _lowest(held) == NOTHING:
            slot = _index(r.slots)[held == NOTHING][0]
            raise self.fail(rank.number, f"combines into slot {slot}, which holds nothing yet", rank.round)
        left, right = (content, held) if r.combine is Combine.BEFORE else (held, content)
        try:
            return self.expressions.combine(left, right)
        except ScheduleError as e:
            raise self.fail(rank.number, f"message from {r.peer}: {e}", rank.round) from None

    def _check_finished(self) -> None:
        for rank in self.ranks:
            if rank.round < len(rank.part.rounds):
                raise self.fail(rank.number, f"deadlock: waits for {self._waiting(rank)}", rank.round)
        for (source, target), left in self.sends.items():
            if left:
                raise self.fail(source, f"sends a message to {target} that is never received", left[0][1])
        for (source, target), posted in self.recvs.items():
            if posted:
                raise self.fail(target, f"posts a receive from {source} that is never sent", posted[0][0])

    def _waiting(self, rank: _Rank) -> str:
        n = rank.number
        what = [f"rank {s.peer} to receive" for s in rank.current.sends if self.sends[n, s.peer]]
        what += [f"a message from rank {r.peer}" for r in rank.current.recvs if self.recvs[r.peer, n]]
        return " and ".join(what) or "nothing that comes"

    def check_result(self) -> None:
        outcomes = [
            Outcome(len(rank.part.load), rank.slots[_index(rank.part.store)], rank.heard) for rank in self.ranks
        ]
        check_results(self.schedule, self.expressions, outcomes, self.fail)


def verify(schedule: Schedule) -> Proof:
    """Prove that ``schedule`` is correct; returns what was looked at.

    Raises ScheduleError naming collective, algorithm, rank, round, peer, block and reason of the first fault found.
    Time and memory O(messages · blocks): about a second for a thousand ranks.
    """
    run = _Run(schedule)
    run.run()
    run.check_result()
    return Proof(schedule.size, run.messages, run.blocks)
