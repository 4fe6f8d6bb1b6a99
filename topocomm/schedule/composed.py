"""The bulk list of a reduce-scatter composed over levels.

It has the messages that :func:`topocomm.schedule.compose.reduce_scatter_rounds` gives rank by rank. Where the children
of a place are of one size, member i of a child talks to member i of another; where they are not, the vector is cut at
each end of an owned interval and each piece is followed from owner to owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from topocomm.arrays import IntArray
from topocomm.schedule.bulk import LISTED, SAMPLE
from topocomm.schedule.compose import Flat
from topocomm.schedule.layout import Layout
from topocomm.schedule.rounds import expand
from topocomm.schedule.transfers import Transfers

__all__ = ["composed_reduce_scatter", "only_stage"]

_STAGE_BITS = 20
"""Round numbers of one level begin at a multiple of two to this power."""


@dataclass(frozen=True)
class _FlatTable:
    """The sends of an algorithm over m children, as they leave: sender, receiver, round, number of homes.

    In this order reversed ones, which are then received so, keep their turns, too.
    """

    child: IntArray
    peer: IntArray
    number: IntArray
    count: IntArray
    of_first: tuple[IntArray, ...]
    """The homes in each message of child 0."""
    flat: Flat

    @property
    def homes(self) -> IntArray:
        """The homes in all messages; many."""
        m = int(self.child[-1]) + 1
        every = np.arange(m)[:, None]
        return np.concatenate([self.flat.turn(m, homes, every).ravel() for homes in self.of_first])


@lru_cache(maxsize=32)
def _flat_table(flat: Flat, m: int) -> _FlatTable:
    rounds = expand(flat.rounds(m, 0))
    sends = [(s.peer, t, np.asarray(s.slots, np.int64)) for t, rnd in enumerate(rounds) for s in rnd.sends]
    child = np.tile(np.arange(m, dtype=np.int64), len(sends))
    peer, number = (np.repeat(np.array([s[i] for s in sends], np.int64), m) for i in (0, 1))
    count = np.repeat(np.array([len(s[2]) for s in sends], np.int64), m)
    return _FlatTable(child, flat.turn(m, peer, child), number, count, tuple(s[2] for s in sends), flat)


@dataclass(frozen=True)
class _Place:
    """A place of depth d and its children: members in the order of their intervals."""

    outer: IntArray
    children: list[IntArray]


def _place(layout: Layout, d: int, place: int) -> _Place:
    inner, first = layout.children(d, place), layout.first[d + 1]
    outer = layout.by_slot[d][layout.first[d][place] : layout.first[d][place + 1]]
    return _Place(outer, [layout.by_slot[d + 1][first[c] : first[c + 1]] for c in inner])


def _even(layout: Layout, d: int, place: _Place) -> int:
    """Count the slots of one home in one member's interval if that is the same everywhere in the place, else 0."""
    sizes = {len(c) for c in place.children}
    m, g = len(place.children), len(place.children[0])
    if len(sizes) > 1:
        return 0
    width = layout.stop[d][place.outer] - layout.start[d][place.outer]
    starts = np.array([layout.start[d + 1][c] for c in place.children])
    if (width != width[0]).any() or (starts != starts[0]).any():
        return 0
    member = np.searchsorted(starts[0], layout.start[d][place.outer], "right") - 1
    if (layout.stop[d][place.outer] > np.append(starts[0][1:], layout.size)[member]).any():
        return 0
    home = layout.places[d + 1][place.outer] - layout.places[d + 1][place.children[0][0]]
    return int(width[0]) if (np.bincount(member * m + home, minlength=m * g) == 1).all() else 0


def _even_stage(place: _Place, table: _FlatTable, width: int) -> list[IntArray]:
    members = np.array(place.children)
    g = members.shape[1]
    source, target = members[table.child].ravel(), members[table.peer].ravel()
    return [source, target, np.repeat(table.number, g), np.repeat(table.count * width, g)]


def _single_stage(layout: Layout, d: int, place: _Place, table: _FlatTable) -> list[IntArray]:
    """List the messages of children that are one rank each and own everything: all slots of their homes."""
    members = np.concatenate(place.children)
    width = layout.stop[d][members] - layout.start[d][members]
    total = np.concatenate(([0], np.cumsum(width[table.homes])))
    ends = np.cumsum(table.count)
    return [members[table.child], members[table.peer], table.number, total[ends] - total[ends - table.count]]


def _uneven_stage(layout: Layout, d: int, place: _Place, table: _FlatTable) -> list[IntArray]:
    m, p = len(place.children), layout.size
    ends = [layout.start[d][place.outer], *(layout.start[d + 1][c] for c in place.children)]
    starts = np.unique(np.concatenate(ends))
    width = np.diff(starts, append=p)
    owner = np.array([c[np.searchsorted(layout.start[d + 1][c], starts, "right") - 1] for c in place.children])
    outer = place.outer[np.searchsorted(layout.start[d][place.outer], starts, "right") - 1]
    home = layout.places[d + 1][outer] - layout.places[d + 1][place.children[0][0]]
    at = np.repeat(np.arange(len(table.child)), table.count)
    of = np.full((m, m), -1, np.int64)
    of[table.child[at], table.homes] = at
    row = of[:, home]
    child, piece = np.nonzero(row >= 0)
    row = row[child, piece]
    source, target = owner[table.child[row], piece], owner[table.peer[row], piece]
    key = (table.number[row] * p + source) * p + target
    keys, which = np.unique(key, return_inverse=True)
    blocks = np.bincount(which, weights=width[piece]).astype(np.int64)
    return [keys // p % p, keys % p, keys // (p * p), blocks]


def _stands_for(rounds: int) -> IntArray:
    """Count for each round of a long stage the rounds that it stands for in a sample of ``SAMPLE`` of them."""
    cuts = np.linspace(0, rounds, min(rounds, SAMPLE) + 1).astype(np.int64)
    out = np.zeros(rounds, np.int64)
    out[(cuts[:-1] + cuts[1:]) // 2] = np.diff(cuts)
    return out


def composed_reduce_scatter(layout: Layout, flat: Flat | Sequence[Flat], outermost: int = 0) -> Transfers:
    """List all messages between virtual ranks, out to depth ``outermost``; the vector has as many blocks as ranks.

    ``flat`` is for all levels, or one a level, outermost first.
    Beyond ``LISTED`` messages a sample of the rounds of each place is made, too.
    """
    flats = [flat] * layout.depth if isinstance(flat, Flat) else list(flat)
    columns: list[list[IntArray]] = [[np.zeros(0, np.int64)] for _ in range(5)]
    for d in range(layout.depth - 1, outermost - 1, -1):
        for number in range(len(layout.first[d]) - 1):
            m = len(layout.children(d, number))
            if m == 1:
                continue
            place, table = _place(layout, d, number), _flat_table(flats[d], m)
            width = _even(layout, d, place)
            if width:
                stage = _even_stage(place, table, width)
            else:
                single = len(place.outer) == m
                stage = (_single_stage if single else _uneven_stage)(layout, d, place, table)
            stage.append(_stands_for(int(table.number.max()) + 1)[stage[2]])
            stage[2] = stage[2] + ((layout.depth - 1 - d) << _STAGE_BITS)
            for column, part in zip(columns, stage, strict=True):
                column.append(part)
    source, target, label, blocks, times = (np.concatenate(c) for c in columns)
    p, sample = layout.size, None
    if len(source) > LISTED:
        some = times > 0
        s, t, n, b, repeat = (c[some] for c in (source, target, label, blocks, times))
        sample = Transfers(p, p, s, t, n, n, b * repeat, repeat, exact=False)
    return Transfers(p, p, source, target, label, label, blocks, np.ones_like(source), sample)


def only_stage(transfers: Transfers, stage: int) -> Transfers:
    """Pick the messages of one level of a composed reduce-scatter (0: the innermost)."""
    picked = transfers.send_round >> _STAGE_BITS == stage
    return replace(
        transfers,
        source=transfers.source[picked],
        target=transfers.target[picked],
        send_round=transfers.send_round[picked],
        recv_round=transfers.recv_round[picked],
        blocks=transfers.blocks[picked],
        repeat=transfers.repeat[picked],
    )
