"""Which slots each rank owns while a vector is reduced or gathered level by level: the near-first layout.

At depth d of the nesting of places (0: all ranks, last: every rank alone) the members of a place share the whole
vector among them: each *owns* one interval of the slots. At the last depth a rank owns everything, at depth 0 only
its home slot. The intervals are nested, so that merging the places inside an outer place moves every slot straight
to the rank that owns it next, and only across the boundary between those places.

Equal groups give the classical picture: the innermost index is the most significant digit of the home slot. Groups
of any size work alike: member i of g owns close to the i-th g-th of the vector, whatever g is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topocomm.arrays import IntArray
from topocomm.topology import Topology

__all__ = ["Layout", "near_first_layout"]


@dataclass(frozen=True)
class Layout:
    """Home slots and owned intervals of all virtual ranks at every depth.

    ``home[v]`` is v's home slot; ``places[d][v]`` its place at depth d; ``start[d][v]`` and ``stop[d][v]`` the
    interval it owns there; ``by_slot[d]`` the virtual ranks, place by place, each place in order of intervals;
    ``first[d][place]`` where a place begins in virtual ranks (and in ``by_slot[d]``), with the size at the end.
    """

    size: int
    home: IntArray
    places: tuple[IntArray, ...]
    start: tuple[IntArray, ...]
    stop: tuple[IntArray, ...]
    by_slot: tuple[IntArray, ...]
    first: tuple[IntArray, ...]

    @property
    def depth(self) -> int:
        """The depth at which every rank is alone."""
        return len(self.places) - 1

    def owners(self, d: int, place: int, slots: IntArray) -> IntArray:
        """The virtual rank that owns each of ``slots`` in ``place`` at depth ``d``."""
        members = self.by_slot[d][self.first[d][place] : self.first[d][place + 1]]
        return members[self.start[d][members].searchsorted(slots, "right") - 1]

    def children(self, d: int, place: int) -> range:
        """The places at depth ``d + 1`` that lie in ``place`` of depth ``d``."""
        inner = self.places[d + 1]
        lo, hi = self.first[d][place], self.first[d][place + 1]
        return range(int(inner[lo]), int(inner[hi - 1]) + 1)


def bit_reversed(m: int) -> IntArray:
    """The bit reversal of 0 … m−1 for m a power of two; the identity for other m."""
    out = np.arange(m, dtype=np.int64)
    if m & (m - 1):
        return out
    rev = np.zeros(1, np.int64)
    while len(rev) < m:
        rev = np.concatenate((2 * rev, 2 * rev + 1))
    return rev


def _first_of_place(places: IntArray) -> IntArray:
    starts = np.flatnonzero(np.diff(places, prepend=places[0] - 1))
    return np.append(starts, len(places)).astype(np.int64)


def _child_order(outer: IntArray, inner: IntArray) -> IntArray:
    """For every rank the position of its inner place among those of its outer place.

    Powers of two are taken in bit-reversed order: then every exchange with the child whose number differs in one
    bit is one contiguous run of slots.
    """
    outer_of_inner = outer[_first_of_place(inner)[:-1]]
    first = np.flatnonzero(np.diff(outer_of_inner, prepend=-1))
    counts = np.diff(first, append=len(outer_of_inner))
    tables = {int(m): bit_reversed(int(m)) for m in np.unique(counts)}
    if len(tables) == 1:
        positions = np.tile(tables[int(counts[0])], len(counts))
    else:
        positions = np.concatenate([tables[int(m)] for m in counts])
    return positions[inner]


def _merged(
    outer: IntArray, inner: IntArray, first_outer: IntArray, first_inner: IntArray, position: IntArray
) -> IntArray:
    """The ranks of every outer place in the order of its slots, from their positions in the inner ones.

    The children's orders are merged by fractional position, ties spread over the children in their order.
    """
    child, sizes = _child_order(outer, inner), np.diff(first_inner)
    head = inner[first_outer[:-1]]  # the first child of every outer place
    if (np.minimum.reduceat(sizes, head) == np.maximum.reduceat(sizes, head)).all():  # nothing but ties: count
        children = np.diff(head, append=len(sizes))
        order = np.empty_like(outer)
        order[first_outer[outer] + position * children[outer] + child] = np.arange(len(outer))
        return order
    fraction = (2 * position + 1) / (2 * sizes[inner])
    return np.lexsort((child, fraction, outer)).astype(np.int64)


def near_first_layout(topology: Topology) -> Layout:
    """The layout for a topology. Cost O(size · levels · log size), independent of any one rank."""
    places = tuple(topology.nesting)
    p, depth = topology.size, len(places) - 1
    first = tuple(_first_of_place(pl) for pl in places)
    position = np.zeros(p, np.int64)
    by_slot: list[IntArray] = [np.arange(p, dtype=np.int64)]
    for d in range(depth - 1, -1, -1):
        order = _merged(places[d], places[d + 1], first[d], first[d + 1], position)
        position = np.empty(p, np.int64)
        position[order] = np.arange(p) - first[d][places[d][order]]
        by_slot.insert(0, order)
    start, stop = [position], [position + 1]
    for d in range(1, depth + 1):  # cut every place's vector between its members' outer intervals
        order = by_slot[d]
        member = np.arange(p) - first[d][places[d][order]]
        size = np.diff(first[d])[places[d][order]]
        low = np.roll(stop[-1][order], 1)
        cut = np.where(member == 0, 0, np.clip(member * p // size, low, start[-1][order]))
        end = np.where(member == size - 1, p, np.roll(cut, -1))
        s, e = np.empty(p, np.int64), np.empty(p, np.int64)
        s[order], e[order] = cut, end
        start.append(s)
        stop.append(e)
    return Layout(p, position, places, tuple(start), tuple(stop), tuple(by_slot), first)
