"""Spanning trees over the nested places of a topology, rooted anywhere: binomial at every level."""

from __future__ import annotations

from topocomm.layout import Layout
from topocomm.schedule import Slots, sort_slots

__all__ = ["Tree"]


def _low_bit(x: int) -> int:
    return x & -x


class Tree:
    """A binomial tree of the ranks of each place under its leader, and of the leaders of the places around them.

    The leader of a place is the root if it lies there, else its first virtual rank. All ranks are virtual ranks.
    ``outermost`` > 0 leaves out the tree above that depth: then every place of that depth has a tree of its own.
    """

    def __init__(self, layout: Layout, root: int = 0, outermost: int = 0) -> None:
        self.layout = layout
        self.root = root
        self.outermost = outermost

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
                return self.leader(d + 1, self._place(inner, head, mine - _low_bit(mine)))
        return None

    def children(self, v: int) -> list[tuple[int, Slots]]:
        """The children of v with all virtual ranks below them, smallest subtree of the innermost level first."""
        out = []
        for d in range(self.layout.depth - 1, self.outermost - 1, -1):
            inner, head, mine = self._relative(v, d)
            limit = _low_bit(mine) if mine else len(inner)
            step = 1
            while step < limit and mine + step < len(inner):
                below = range(mine + step, min(mine + 2 * step, len(inner)))
                places = [self._place(inner, head, b) for b in below]
                out.append((self.leader(d + 1, places[0]), self._ranks(d + 1, places)))
                step *= 2
            if mine:
                break
        return out

    def subtree(self, v: int) -> Slots:
        """All virtual ranks at and below v, ascending."""
        return sort_slots([v, *(x for _, below in self.children(v) for x in below)])

    def _ranks(self, d: int, places: list[int]) -> Slots:
        first = self.layout.first[d]
        return sort_slots([x for pl in places for x in range(int(first[pl]), int(first[pl + 1]))])
