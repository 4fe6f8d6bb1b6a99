"""A schedule bound to counts and a rank: byte ranges, scratch memory and the copies between them.

A slot lives in one of three regions of memory:

* ``SEND``, the caller's send buffer, where it is only read;
* ``RECV``, the caller's receive buffer, where the output blocks stand in order;
* ``SCRATCH``, memory of the plan, for everything else and for messages that are not one contiguous piece of memory.

So what needs no copy gets none: an allgather without a reordering receives straight into the receive buffer, a leaf of
a tree sends straight from the send buffer. A plan holds all that does not depend on the addresses of the buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from topocomm.arrays import Bytes, IntArray
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Slots

__all__ = [
    "LARGEST",
    "RECV",
    "SCRATCH",
    "SEND",
    "Message",
    "Move",
    "Plan",
    "PlanRound",
    "Reduction",
    "block_cuts",
    "make_plan",
]


Regions: TypeAlias = tuple[Bytes, Bytes, Bytes]
"""The memory behind SEND, RECV and SCRATCH."""

SEND, RECV, SCRATCH = 0, 1, 2
_ALIGN = 64
LARGEST = 1 << 30
"""Bytes of the largest message; a longer one goes in pieces, because an MPI count may be an int of 32 bits."""
_FEW = 8
"""Up to so many pieces are copied one by one; more of them by one indexed copy,"""
_LONG = 64
"""unless they are longer than so many units: then an index for every unit would cost more than it saves."""


def block_cuts(count: int, blocks: int) -> IntArray:
    """Where to cut ``count`` elements into ``blocks`` blocks that differ by at most one: blocks + 1 positions."""
    return np.arange(blocks + 1, dtype=np.int64) * count // max(blocks, 1)


@dataclass(frozen=True, slots=True)
class Message:
    """One message to or from ``peer``: ``nbytes`` contiguous bytes at ``offset`` of a region."""

    peer: int
    region: int
    offset: int
    nbytes: int

    def view(self, regions: Regions) -> Bytes:
        """The memory of the message."""
        return regions[self.region][self.offset : self.offset + self.nbytes]


@dataclass(frozen=True)
class Move:
    """A copy of pieces from one region to another. Offsets and sizes in bytes."""

    source: int
    target: int
    pieces: tuple[tuple[int, int, int], ...] = ()
    """(offset in source, offset in target, bytes), if they are few."""
    unit: int = 0
    """Size of the pieces, if they are many; then piece ``take[i]`` of the source goes to piece ``put[i]``."""
    take: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    put: IntArray = field(default_factory=lambda: np.empty(0, np.int64))

    def run(self, regions: Regions) -> None:
        """Copy."""
        source, target = regions[self.source], regions[self.target]
        for s, t, n in self.pieces:
            target[t : t + n] = source[s : s + n]
        if self.unit:
            rows = source[: len(source) // self.unit * self.unit].reshape(-1, self.unit)
            target[: len(target) // self.unit * self.unit].reshape(-1, self.unit)[self.put] = rows[self.take]


@dataclass(frozen=True)
class Reduction:
    """Combine ``received`` into ``held`` (both contiguous, ``count`` elements).

    ``gather`` and ``scatter`` bring scattered operands together before, and back after.
    """

    received: Message
    held: Message
    count: int
    order: Combine
    gather: tuple[Move, ...] = ()
    scatter: tuple[Move, ...] = ()


@dataclass(frozen=True)
class PlanRound:
    """One round: ``pack``; post ``sends`` and ``recvs``; ``local``; wait; ``unpack``; ``reductions``."""

    pack: tuple[Move, ...]
    sends: tuple[Message, ...]
    recvs: tuple[Message, ...]
    local: tuple[Move, ...]
    unpack: tuple[Move, ...]
    reductions: tuple[Reduction, ...]


@dataclass(frozen=True)
class Plan:
    """What one rank does, in bytes. ``scratch_bytes`` of memory belong to it."""

    load: tuple[Move, ...]
    rounds: tuple[PlanRound, ...]
    store: tuple[Move, ...]
    scratch_bytes: int


class _Binder:
    """Binds one rank's part of a schedule."""

    def __init__(
        self, part: RankSchedule, rank: int, sizes: IntArray, itemsize: int, in_place: bool, pieces: int
    ) -> None:
        self.part = part
        self.pieces = pieces  # slots of a block
        self.rank = rank
        self.sizes = sizes  # bytes of every slot
        self.itemsize = itemsize
        self.region = np.full(len(sizes), SCRATCH, np.int64)
        self.offset = np.zeros(len(sizes), np.int64)
        self.load, self.store = np.asarray(part.load, np.int64), np.asarray(part.store, np.int64)
        self.in_offsets = _offsets(sizes[self.load])
        self.out_offsets = _offsets(sizes[self.store])
        self._place_slots(in_place)
        self.uniform = int(sizes[0]) if len(sizes) and (sizes == sizes[0]).all() else 0

    def _place_slots(self, in_place: bool) -> None:
        used, written = np.zeros(len(self.sizes), bool), np.zeros(len(self.sizes), bool)
        for rnd in self.part.rounds:
            for s in rnd.sends:
                used[np.asarray(s.slots, np.int64)] = True
            for r in rnd.recvs:
                written[np.asarray(r.slots, np.int64)] = True
        used |= written
        used[self.store] = True
        used[self.load] = True
        placed = np.zeros(len(self.sizes), bool)
        placed[self.store] = True
        same = len(self.load) == len(self.store) and bool((self.load == self.store).all())
        stays = not in_place or same or len(self.load) == self.pieces != len(self.store)
        if _is_run(self.part.store) and stays and not (written & ~placed).any():
            self.region[self.store], self.offset[self.store] = RECV, self.out_offsets
        else:
            placed[:] = False
        free = ~placed[self.load]
        if _is_run(self.part.load) and not in_place and not written[self.load[free]].any():
            self.region[self.load[free]], self.offset[self.load[free]] = SEND, self.in_offsets[free]
            placed[self.load] = True
        rest = np.flatnonzero(used & ~placed)
        self.offset[rest] = _offsets(self.sizes[rest])
        self.end = _aligned(int(self.sizes[rest].sum()))  # of the scratch memory in use
        self.stage = self.end
        self.in_scratch = rest

    def bind(self) -> Plan:
        load = self._move(SEND, self.in_offsets, self.load)
        rounds = tuple(self._round(rnd) for rnd in self.part.rounds)
        store = self._move(RECV, self.out_offsets, self.store, outward=True)
        return Plan(load, rounds, store, self.end)

    def _move(self, region: int, offsets: IntArray, slots: IntArray, outward: bool = False) -> tuple[Move, ...]:
        """Copies between the caller's buffer and the slots, leaving out slots that live there."""
        away = (self.region[slots] != region) | (self.offset[slots] != offsets)
        moves = []
        for other in (RECV, SCRATCH) if not outward else (SEND, SCRATCH):
            pick = away & (self.region[slots] == other)
            here, there, sizes = offsets[pick], self.offset[slots[pick]], self.sizes[slots[pick]]
            move = (other, there, region, here) if outward else (region, here, other, there)
            moves.append(self._copy(*move, sizes))
        return tuple(m for m in moves if m is not None)

    def _copy(self, source: int, source_at: IntArray, target: int, target_at: IntArray, sizes: IntArray) -> Move | None:
        keep = sizes > 0
        source_at, target_at, sizes = source_at[keep], target_at[keep], sizes[keep]
        if len(sizes) == 0:
            return None
        ends = np.flatnonzero((np.diff(source_at) != sizes[:-1]) | (np.diff(target_at) != sizes[:-1]))
        first = np.concatenate(([0], ends + 1))
        length = np.add.reduceat(sizes, first)
        unit = self.uniform
        if not unit or (source_at % unit).any() or (target_at % unit).any():
            unit = int(np.gcd.reduce(np.concatenate((source_at, target_at, sizes))))
        if len(first) <= _FEW or int(sizes.sum()) // unit > _LONG * len(first):
            pieces = zip(source_at[first].tolist(), target_at[first].tolist(), length.tolist(), strict=True)
            return Move(source, target, tuple(pieces))
        per = sizes // unit
        within = np.arange(int(per.sum())) - np.repeat(_offsets(per), per)
        take = np.repeat(source_at // unit, per) + within
        put = np.repeat(target_at // unit, per) + within
        return Move(source, target, (), unit, take, put)

    def _whole(self, slots: IntArray) -> tuple[int, int] | None:
        """Region and offset of slots that are one contiguous piece of memory in this order, else None."""
        region = self.region[slots]
        if not (region == region[0]).all():
            return None
        if len(slots) > 1 and (np.diff(self.offset[slots]) != self.sizes[slots[:-1]]).any():
            return None
        return int(region[0]), int(self.offset[slots[0]])

    def _new_stage(self, nbytes: int) -> int:
        at = self.stage
        self.stage = _aligned(at + nbytes)
        self.end = max(self.end, self.stage)
        return at

    def _gather(self, slots: IntArray, at: int, back: bool = False) -> tuple[Move, ...]:
        """Copies between scattered slots and one piece of scratch memory at ``at``."""
        stage = at + _offsets(self.sizes[slots])
        moves = []
        for region in (SEND, RECV, SCRATCH):
            pick = self.region[slots] == region
            here, there, sizes = self.offset[slots[pick]], stage[pick], self.sizes[slots[pick]]
            move = (SCRATCH, there, region, here) if back else (region, here, SCRATCH, there)
            moves.append(self._copy(*move, sizes))
        return tuple(m for m in moves if m is not None)

    def _message(self, peer: int, slots: IntArray, nbytes: int) -> tuple[Message, bool]:
        """The message for slots, in their own memory if that is contiguous, else staged (then True)."""
        whole = self._whole(slots) if len(slots) else (SCRATCH, 0)
        if whole is not None:
            return Message(peer, *whole, nbytes), False
        return Message(peer, SCRATCH, self._new_stage(nbytes), nbytes), True

    def _round(self, rnd: Round) -> PlanRound:
        self.stage = _aligned(int(self.sizes[self.in_scratch].sum()))
        pack: list[Move] = []
        unpack: list[Move] = []
        sends: list[Message] = []
        recvs: list[Message] = []
        reductions: list[Reduction] = []
        for s in rnd.sends:
            slots = np.asarray(s.slots, np.int64)
            nbytes = int(self.sizes[slots].sum())
            if s.peer == self.rank or (nbytes == 0 and len(slots)):
                continue
            message, staged = self._message(s.peer, slots, nbytes)
            sends.append(message)
            pack += self._gather(slots, message.offset) if staged else ()
        for r in rnd.recvs:
            slots = np.asarray(r.slots, np.int64)
            nbytes = int(self.sizes[slots].sum())
            if r.peer == self.rank or (nbytes == 0 and len(slots)):
                continue
            if r.combine is not Combine.REPLACE and len(slots):
                reductions.append(self._reduction(r, slots, nbytes))
                recvs.append(reductions[-1].received)
                continue
            message, staged = self._message(r.peer, slots, nbytes)
            recvs.append(message)
            unpack += self._gather(slots, message.offset, back=True) if staged else ()
        send, recv = _in_pieces(sends), _in_pieces(recvs)
        return PlanRound(tuple(pack), send, recv, self._local(rnd), tuple(unpack), tuple(reductions))

    def _reduction(self, r: Recv, slots: IntArray, nbytes: int) -> Reduction:
        received = Message(r.peer, SCRATCH, self._new_stage(nbytes), nbytes)
        held, staged = self._message(r.peer, slots, nbytes)
        gather: tuple[Move, ...] = ()
        scatter: tuple[Move, ...] = ()
        if staged:
            gather = self._gather(slots, held.offset)
            scatter = self._gather(slots, held.offset, back=True)
        return Reduction(received, held, nbytes // self.itemsize, r.combine, gather, scatter)

    def _local(self, rnd: Round) -> tuple[Move, ...]:
        """Messages of a rank to itself are copies."""
        moves: list[Move] = []
        mine = [s.slots for s in rnd.sends if s.peer == self.rank]
        for here, r in zip(mine, [r for r in rnd.recvs if r.peer == self.rank], strict=True):
            moves += self._slots_to_slots(here, r.slots)
        return tuple(moves)

    def _slots_to_slots(self, source: Slots, target: Slots) -> list[Move]:
        moves = []
        for s, t in zip(source, target, strict=True):
            nbytes = int(self.sizes[s])
            if nbytes:
                piece = (int(self.offset[s]), int(self.offset[t]), nbytes)
                moves.append(Move(int(self.region[s]), int(self.region[t]), (piece,)))
        return moves


def _in_pieces(messages: list[Message]) -> tuple[Message, ...]:
    """The same messages, none larger than LARGEST."""
    if all(m.nbytes <= LARGEST for m in messages):
        return tuple(messages)
    return tuple(
        Message(m.peer, m.region, m.offset + at, min(LARGEST, m.nbytes - at))
        for m in messages
        for at in range(0, max(m.nbytes, 1), LARGEST)
    )


def _offsets(sizes: IntArray) -> IntArray:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))[:-1]


def _aligned(n: int) -> int:
    return -(-n // _ALIGN) * _ALIGN


def _is_run(slots: Slots) -> bool:
    return len(slots) > 0 and isinstance(slots, range) and slots.step == 1


def make_plan(
    schedule: Schedule, rank: int, counts: int | Sequence[int] | IntArray, itemsize: int, in_place: bool = False
) -> Plan:
    """Bind rank ``rank``'s part of a schedule to counts.

    Parameters
    ----------
    counts
        Elements of a block; or of each block of the vector, if they differ.
    itemsize
        Bytes of an element.
    in_place
        The input is in the receive buffer: its region SEND is the part of it that holds the input.
    """
    part, pieces = schedule.part(rank), schedule.pieces
    if isinstance(counts, (int, np.integer)):
        sizes = np.tile(np.diff(block_cuts(int(counts), pieces)), schedule.nslots // pieces) * itemsize
    else:
        cut = np.diff(np.asarray(counts, np.int64)[:, None] * np.arange(pieces + 1) // pieces).reshape(-1)
        slots = part.load if len(part.load) == len(cut) else part.store
        sizes = np.zeros(schedule.nslots, np.int64)
        sizes[np.asarray(slots, np.int64)] = cut * itemsize
    return _Binder(part, rank, sizes, itemsize, in_place, pieces).bind()
