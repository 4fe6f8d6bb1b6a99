"""Spanning trees over the nested places of a topology, rooted anywhere: binomial at every level, or k-nomial."""

from __future__ import annotations

from collections.abc import Sequence

from topocomm.schedule.layout import Layout
from topocomm.schedule.rounds import Slots, sort_slots

__all__ = ["Tree"]


def _weight(x: int, radix: int) -> int:
    """The weight of the lowest digit of x > 0 that is not 0."""
    weight = 1
    while x % (weight * radix) == 0:
        weight *= radix
    return weight


class Tree:
    """A k-nomial tree of the ranks of each place under its leader, and of the leaders of the places around them.

    The leader of a place is the root if it lies there, else its first virtual rank. All ranks are virtual ranks. The
    parent of place number x, counted from the leader's, has x's lowest digit that is not 0 set to 0; digits are of
    ``radices`` (nearest level first, the last for all levels farther out; 2: binomial).
    ``outermost`` > 0 leaves out the tree above that depth: then every place of that depth has a tree of its own.
    """

    def __init__(self, layout: Layout, root: int = 0, outermost: int = 0, radices: Sequence[int] = (2,)) -> None:
        self.layout = layout
        self.root = root
        self.outermost = outermost
        self.radices = tuple(radices)

    def radix(self, d: int) -> int:
        """The radix of the tree over the places inside one of depth ``d``."""
        return self.radices[min(self.layout.depth - 1 - d, len(self.radices) - 1)]

    def leader(self, d: int, place: int) -> int:
        """The leader of ``place`` at depth ``d``."""
        if self.layout.places[d][self.root] == place:
            return self.root
        return int(self.layout.first[d][place])

    def _relative(self, v: int, d: int) -> tuple[range, int, int]:
        """The places inside v's place of depth d, the one that holds its leader, and v's own, counted from there."""
        place = int(self.layout.places[d][v])
        inner = self.layout.children(d, place)
        head = int(self.layout.places[d + 1][self.leader(d, place)])
        return inner, head, (int(self.layout.places[d + 1][v]) - head) % len(inner)

    def _place(self, inner: range, head: int, relative: int) -> int:
        return inner.start + (head - inner.start + relative) % len(inner)

    def parent(self, v: int) -> int | None:
        """The parent of v; None at the root (and at the leaders of the outermost places)."""
        for d in range(self.layout.depth - 1, self.outermost - 1, -1):
            inner, head, mine = self._relative(v, d)
            if mine:
                radix = self.radix(d)
                above = mine - mine % (_weight(mine, radix) * radix)
                return self.leader(d + 1, self._place(inner, head, above))
        return None

    def children(self, v: int) -> list[tuple[int, Slots]]:
        """The children of v with all virtual ranks below them, smallest subtree of the innermost level first."""
        return [child for together in self.families(v) for child in together]

    def families(self, v: int) -> list[list[tuple[int, Slots]]]:
        """The same, those together whose numbers differ from v's in the same digit."""
        out = []
        for d in range(self.layout.depth - 1, self.outermost - 1, -1):
            inner, head, mine = self._relative(v, d)
            radix, step = self.radix(d), 1
            limit = _weight(mine, radix) if mine else len(inner)
            while step < limit and mine + step < len(inner):
                family = []
                for first in range(mine + step, min(mine + step * radix, len(inner)), step):
                    below = range(first, min(first + step, len(inner)))
                    places = [self._place(inner, head, b) for b in below]
                    family.append((self.leader(d + 1, places[0]), self._ranks(d + 1, places)))
                out.append(family)
                step *= radix
            if mine:
                break
        return out

    def subtree(self, v: int) -> Slots:
        """All virtual ranks at and below v, ascending."""
        return sort_slots([v, *(x for _, below in self.children(v) for x in below)])

    def _ranks(self, d: int, places: list[int]) -> Slots:
        first = self.layout.first[d]
        return sort_slots([x for pl in places for x in range(int(first[pl]), int(first[pl + 1]))])
