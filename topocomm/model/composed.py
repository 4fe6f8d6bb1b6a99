"""The transfers of a reduce-scatter composed over levels, for all ranks at once.

The same messages as :func:`topocomm.compose.reduce_scatter_rounds` gives rank by rank. Where the children of a place
are alike, member i of a child talks to member i of another; where they are not, the vector is cut at every end of an
owned interval and each piece is followed from owner to owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from topocomm.compose import Flat
from topocomm.layout import Layout
from topocomm.model.transfers import Transfers
from topocomm.topology.topology import IntArray

__all__ = ["composed_reduce_scatter"]

_STAGE = 1 << 20
"""Round numbers of one level begin at a multiple of this."""


@dataclass(frozen=True)
class _FlatTable:
    """The sends of an algorithm over m children: sender, receiver, round, number of homes; ``homes`` as they follow."""

    child: IntArray
    peer: IntArray
    number: IntArray
    count: IntArray
    homes: IntArray


@lru_cache(maxsize=32)
def _flat_table(flat: Flat, m: int) -> _FlatTable:
    rows, homes = [], []
    messages = [
        (t, turn, c, s.peer, s.slots)
        for c in range(m)
        for t, rnd in enumerate(flat(m, c))
        for turn, s in enumerate(rnd.sends)
    ]
    for t, _, c, peer, slots in sorted(messages, key=lambda row: row[:3]):  # then reversed ones keep their turns, too
        rows.append((c, peer, t, len(slots)))
        homes.append(np.asarray(slots, np.int64))
    child, peers, number, count = np.array(rows, np.int64).reshape(-1, 4).T
    return _FlatTable(child, peers, number, count, np.concatenate([np.zeros(0, np.int64), *homes]))


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
    """The slots of one home in one member's interval if that is the same everywhere in the place, else 0."""
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
    """Children that are one rank each and own the whole vector: a message holds all slots of its homes."""
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


def composed_reduce_scatter(layout: Layout, flat: Flat | Sequence[Flat], outermost: int = 0) -> Transfers:
    """All messages between virtual ranks; the vector has as many blocks as there are ranks.

    ``flat`` for all levels or one a level; the levels from the innermost up to number ``outermost``.
    """
    flats = [flat] * layout.depth if callable(flat) else list(flat)
    columns: list[list[IntArray]] = [[np.zeros(0, np.int64)] for _ in range(4)]
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
            stage[2] = stage[2] + (layout.depth - 1 - d) * _STAGE
            for column, part in zip(columns, stage, strict=True):
                column.append(part)
    source, target, label, blocks = (np.concatenate(c) for c in columns)
    return Transfers(layout.size, layout.size, source, target, label, label, blocks, np.ones_like(source))
