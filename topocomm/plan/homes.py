"""Where the slots of one rank live: in the caller's buffers as far as they can, else in scratch memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np

from topocomm.arrays import IntArray
from topocomm.plan.program import RECV_ROLE, SCRATCH_ROLE, SEND_ROLE
from topocomm.schedule.rounds import Exchanges, Item, RankSchedule, Repeat, Slots

__all__ = ["Homes", "Places", "index", "ranges"]

Places: TypeAlias = list[tuple[int, int]]
"""(first place, places): a run in the numbering of all places of SEND, RECV and SCRATCH one after the other."""


class Homes:
    """Where the slots of one rank live."""

    def __init__(self, part: RankSchedule, nslots: int, pieces: int, in_place: bool) -> None:
        load, store = np.asarray(part.load, np.int64), np.asarray(part.store, np.int64)
        read, written = footprint(part.items, nslots)
        stored = np.zeros(nslots, bool)
        stored[store] = True
        same = len(load) == len(store) and bool((load == store).all())
        stays = not in_place or same or len(load) == 0 or len(load) == pieces != len(store)
        self.place = np.full(nslots, -1, np.int64)  # in the numbering of all roles, one after the other
        self.recv_base, self.scratch_base = len(load), len(load) + len(store)
        in_recv = is_run(part.store) and stays and not (written & ~stored).any()
        if in_recv:
            self.place[store] = self.recv_base + np.arange(len(store))
        self.input_stays = in_place and in_recv
        """Whether input that lives in RECV is there already."""
        free = self.place[load] < 0
        if is_run(part.load) and not in_place and not written[load[free]].any():
            self.place[load[free]] = np.flatnonzero(free)
        needed = read | written | stored
        needed[load] = True
        rest = np.flatnonzero(needed & (self.place < 0))
        self.place[rest] = self.scratch_base + np.arange(len(rest))
        self.layout = (load.astype(np.int32), store.astype(np.int32), rest.astype(np.int32))
        self.load, self.store = load, store
        self.bases = np.array([0, self.recv_base, self.scratch_base], np.int64)
        self.ends = np.array([self.recv_base, self.scratch_base, self.scratch_base + len(rest)], np.int64)

    def roles(self, places: IntArray) -> IntArray:
        """Return the role of every place."""
        return np.searchsorted(self.ends, places, side="right")

    def role(self, place: int) -> int:
        """Return the role of one place."""
        return SEND_ROLE if place < self.recv_base else RECV_ROLE if place < self.scratch_base else SCRATCH_ROLE

    def runs(self, slots: Slots) -> Places:
        """Return the places of ``slots`` as runs, in order; none reaches over the end of a role."""
        if len(slots) == 1:
            return [(int(self.place[slots[0]]), 1)]
        places = self.place[index(slots)]
        return [(int(places[a]), b - a) for a, b in self._pieces(places)]

    def _pieces(self, places: IntArray, others: IntArray | None = None) -> Iterator[tuple[int, int]]:
        """Cut places (and ``others``, alongside) where they do not go on by one or enter another role."""
        if len(places) == 0:
            return
        ends = self._breaks(places)
        if others is not None:
            ends |= self._breaks(others)
        cuts = [0, *(np.flatnonzero(ends) + 1).tolist(), len(places)]
        yield from itertools.pairwise(cuts)

    def _breaks(self, places: IntArray) -> IntArray:
        after = places[1:]
        return np.asarray((after - places[:-1] != 1) | (after == self.recv_base) | (after == self.scratch_base))

    def copies(self, source: IntArray, target: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Cut a copy into runs: first places of source and target, and lengths."""
        cuts = np.array([*self._pieces(source, target)], np.int64).reshape(-1, 2)
        return source[cuts[:, 0]], target[cuts[:, 0]], cuts[:, 1] - cuts[:, 0]


def ranges(places: IntArray) -> Places:
    """Return the set of places as runs, ascending."""
    if len(places) == 0:
        return []
    known = np.unique(places)
    cuts = [0, *(np.flatnonzero(np.diff(known) != 1) + 1).tolist(), len(known)]
    return [(int(known[a]), b - a) for a, b in itertools.pairwise(cuts)]


def footprint(items: Iterable[Item], nslots: int) -> tuple[IntArray, IntArray]:
    """Masks of the slots that the rounds send, and of those that they receive."""
    read, written = np.zeros(nslots, bool), np.zeros(nslots, bool)
    for item in items:
        if isinstance(item, Exchanges):
            read[item.send_slots] = True
            written[item.recv_slots] = True
            continue
        rnd, turns = (item.round, item) if isinstance(item, Repeat) else (item, None)
        for s in rnd.sends:
            _mark(read, s.slots, turns)
        for r in rnd.recvs:
            _mark(written, r.slots, turns)
    return read, written


def _mark(mask: IntArray, slots: Slots, turns: Repeat | None) -> None:
    if turns is not None:
        moved = np.arange(turns.times)[:, None] * turns.step + np.asarray(slots, np.int64)
        mask[moved.reshape(-1) % turns.modulus] = True
    else:
        mask[index(slots)] = True


def index(slots: Slots) -> slice | IntArray:
    if isinstance(slots, range) and slots.step == 1:
        return slice(slots.start, slots.stop)
    return np.asarray(slots, np.int64)


def is_run(slots: Slots) -> bool:
    return len(slots) > 0 and isinstance(slots, range) and slots.step == 1
