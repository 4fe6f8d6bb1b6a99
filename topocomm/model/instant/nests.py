"""Who sends to whom in one round of a regular pattern, in numbers of ranks: shifts and butterflies between places.

A *nest* is an order of the ranks and the places that contain them in this order. Between the places of depth b inside
each place of depth a ≤ b every pattern joins member i of one place with member i of another, which is what all
schedules of :mod:`topocomm.schedule.compose` come to. Places of unequal size are joined in proportion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.topology import Topology

__all__ = ["SAMPLED", "Family", "Nest"]

FloatArray = npt.NDArray[np.float64]
SAMPLED = 1024
"""Ranks whose messages are looked at, at most: beyond, those of evenly spread runs of ranks stand for all."""
_EXACT = 1024
"""Ranks up to which the slots of a vector are counted."""
_RUNS = 8
"""Runs of neighbouring ranks in a sample."""


@dataclass(frozen=True)
class Family:
    """The places of depth b (children) inside those of depth a (parents), as the sampled ranks see them."""

    child: IntArray
    """Of every sampled rank: the number of its child inside its parent."""
    index: IntArray
    """Its position inside its child."""
    members: IntArray
    """The members of its child."""
    width: FloatArray
    """The part of the vector that it owns among them: whole slots, of which there are as many as ranks."""
    count: IntArray
    """The children of its parent."""
    head: IntArray
    """The first child of its parent, by number of all."""
    first: IntArray
    """Of every child: its first position; p at the end."""
    slots: FloatArray
    """Of every child: the part of the vector whose blocks are for it, of all that its parent has."""

    @cached_property
    def even(self) -> bool:
        """True if all children have the same part of the vector."""
        return bool(self.slots.max() == self.slots.min())


class Nest:
    """An order of ranks, ``order[position]`` = rank, with the places of every depth as numbers that never decrease."""

    def __init__(self, order: IntArray, nesting: list[IntArray]) -> None:
        self.order, self.nesting = order, nesting
        self.size, self.depth = len(order), len(nesting) - 1
        self._families: dict[tuple[int, int, int], Family] = {}
        self._samples: dict[int, IntArray] = {}
        self._children: dict[tuple[int, int], int] = {}
        self._first: list[IntArray | None] = [None] * len(nesting)

    @classmethod
    def of(cls, topology: Topology) -> Nest:
        """Return the ranks in topology order, with all levels."""
        return cls(topology.order, topology.nesting)

    @classmethod
    def flat(cls, size: int) -> Nest:
        """Return equals in the order of ranks."""
        ranks = np.arange(size, dtype=np.int64)
        return cls(ranks, [np.zeros(size, np.int64), *([ranks] if size > 1 else [])])

    def sample(self, most: int) -> IntArray:
        """Return the positions whose messages are looked at, about ``most`` if there are more, ascending."""
        if most not in self._samples:
            run = max(most // _RUNS, 1)
            begins = (
                np.linspace(0, self.size - run, _RUNS).astype(np.int64) if self.size > most else np.zeros(1, np.int64)
            )
            length = run if self.size > most else self.size
            self._samples[most] = np.unique((begins[:, None] + np.arange(length)).ravel())
        return self._samples[most]

    def first(self, depth: int) -> IntArray:
        """Return the first position of every place of a depth, and the size at the end."""
        known = self._first[depth]
        if known is None:
            places = self.nesting[depth]
            begins = np.flatnonzero(places[1:] != places[:-1]) + 1
            known = np.concatenate(([0], begins, [self.size])).astype(np.int64)
            self._first[depth] = known
        return known

    def sizes(self, depth: int) -> IntArray:
        """Return the number of ranks of every place of a depth."""
        first = self.first(depth)
        sizes: IntArray = first[1:] - first[:-1]
        return sizes

    def family(self, outer: int, inner: int, most: int = SAMPLED) -> Family:
        """Return the places of depth ``inner`` inside those of depth ``outer``, as about ``most`` ranks see them."""
        key = outer, inner, most
        if key not in self._families:
            at, child, parent = self.sample(most), self.nesting[inner], self.nesting[outer]
            begin, above = self.first(inner), self.first(outer)
            heads = np.append(child[above[:-1]], child[-1] + 1)
            mine, here = child[at], parent[at]
            self._families[key] = Family(
                mine - heads[here],
                at - begin[mine],
                begin[mine + 1] - begin[mine],
                self._widths(at - begin[mine], begin[mine + 1] - begin[mine]),
                heads[here + 1] - heads[here],
                heads[here],
                begin,
                self._slots(begin, above, heads),
            )
        return self._families[key]

    def _slots(self, begin: IntArray, above: IntArray, heads: IntArray) -> FloatArray:
        """Return the part of every child: whole slots, cut evenly among the members of its parent."""
        parent = np.repeat(np.arange(len(above) - 1), heads[1:] - heads[:-1])
        first, members = above[parent], (above[1:] - above[:-1])[parent]
        low, high = begin[:-1] - first, begin[1:] - first
        if self.size > _EXACT:
            return np.asarray((high - low) / members)
        return np.asarray((high * self.size // members - low * self.size // members) / self.size)

    def _widths(self, index: IntArray, members: IntArray) -> FloatArray:
        if self.size > _EXACT:  # slots are fine enough
            return np.asarray(1.0 / members)
        slots: FloatArray = ((index + 1) * self.size // members - index * self.size // members) / self.size
        return slots

    def children(self, outer: int, inner: int) -> int:
        """Return the most places of depth ``inner`` inside one of depth ``outer``."""
        key = outer, inner
        if key not in self._children:
            heads, last = self.nesting[inner][self.first(outer)[:-1]], int(self.nesting[inner][-1])
            ends = np.append(heads[1:], last + 1)
            self._children[key] = int((ends - heads).max())
        return self._children[key]
