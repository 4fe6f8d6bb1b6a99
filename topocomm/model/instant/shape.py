"""A topology as closed forms see it, and the parts that they share: stages of a reduce-scatter, trees, doubling."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from topocomm.algorithms.folding import Fold
from topocomm.algorithms.rivals.multilane import nodes
from topocomm.model.instant.nests import Nest
from topocomm.model.instant.rounds import Key, hops
from topocomm.model.instant.terms import Step, Term, Tree
from topocomm.topology import Topology

__all__ = ["CIRCLE", "LABELS", "PLACES", "RANKS", "Shape", "Terms"]

PLACES, LABELS, RANKS, CIRCLE = "places", "labels", "ranks", "circle"
"""Nests: topology order with all levels; the same by labels; ranks as equals in their order; in a shuffled circle."""
SAMPLE = 16
"""Rounds of many that are looked at."""
Terms = list[Term]


class Shape:
    """A topology as closed forms see it: its nests, and the depth of its nodes."""

    def __init__(self, topology: Topology, nests: dict[str, Nest], by_label: bool) -> None:
        self.topology, self.nests, self.size = topology, nests, topology.size
        self.labels = LABELS if by_label else PLACES
        """The nest in the order of labels, as far as their order matters."""
        self.depth = nests[PLACES].depth
        self.node = self._node()

    def _node(self) -> int:
        """Return the depth of the equal nodes of multi-lane collectives; that of single ranks if there are none."""
        members = nodes(self.topology)
        sizes = [self.nests[PLACES].sizes(d) for d in range(self.depth + 1)]
        return next((d for d, size in enumerate(sizes) if d and (size == members).all()), self.depth)

    def children(self, nest: str, outer: int, inner: int) -> int:
        """Return the most places of depth ``inner`` inside one of depth ``outer``."""
        return self.nests[nest].children(outer, inner)

    # -- parts ------------------------------------------------------------------------------------------------

    def stage(self, pattern: str, outer: int, inner: int, combines: bool, nest: str = PLACES) -> Terms:
        """Return the rounds of a reduce-scatter between the places of ``inner`` inside those of ``outer``."""
        m = self.children(nest, outer, inner)
        if m == 1:
            return []
        if pattern == "r":
            return [Step(Key(nest, outer, inner, "s", 1), 1 / m, m - 1, combines, self.size // m)]
        if pattern == "p":
            return self.shifts(nest, outer, inner, m, 1 / m, combines)
        return [Step(Key(nest, outer, inner, pattern, i), combines=combines) for i in range(len(hops(pattern, m)))]

    def shifts(self, nest: str, outer: int, inner: int, m: int, part: float, combines: bool = False) -> Terms:
        """Return m - 1 rounds of a message to the place s further on, s = 1, 2, …; of many a sample."""
        cuts = [1 + (m - 1) * i // min(SAMPLE, m - 1) for i in range(min(SAMPLE, m - 1) + 1)]
        return [
            Step(Key(nest, outer, inner, "s", (low + high) // 2), part, high - low, combines)
            for low, high in pairwise(cuts)
        ]

    def stages(self, pattern: str, combines: bool, outermost: int = 0, nest: str = PLACES) -> Terms:
        """Return a reduce-scatter from the innermost level out to ``outermost``."""
        depth = self.nests[nest].depth
        return [t for d in reversed(range(outermost, depth)) for t in self.stage(pattern, d, d + 1, combines, nest)]

    def digits(self, nest: str, outer: int, inner: int, radix: int, leaders: bool) -> tuple[Key, ...]:
        """Return the rounds of a tree over the places of ``inner`` inside those of ``outer``, lowest digit first."""
        m, out = self.children(nest, outer, inner), list[Key]()
        while radix ** len(out) < m:
            out.append(Key(nest, outer, inner, f"t{radix}", len(out), leaders))
        return tuple(out)

    def tree(self, radix: int, up: bool, combines: bool, blocks: bool, outermost: int = 0, nest: str = PLACES) -> Terms:
        """Return a tree over the places of all levels."""
        out: Terms = []
        for d in reversed(range(outermost, self.nests[nest].depth)):
            m, digits = self.children(nest, d, d + 1), self.digits(nest, d, d + 1, radix, True)
            share = self._share(nest, d, m) if blocks and m > 1 else 0.0
            out += [Tree(digits, m, radix, share, combines, up)] if digits else []
        return out

    def _share(self, nest: str, depth: int, m: int) -> float:
        """Return the part of the vector of a place inside one of ``depth``: of those beside the root's on average."""
        sizes, inner = self.nests[nest].sizes(depth), self.nests[nest].sizes(depth + 1)
        outside = int(sizes.max()) - (int(inner[0]) if depth == 0 else int(inner.max()))
        return max(outside / (m - 1), 1.0) / self.size

    def doubling(self, depth: int, nest: str = PLACES, leaders: bool = False) -> Terms:
        """Return a doubling among all places of a depth, folded if they are no power of two."""
        m = self.children(nest, 0, depth)
        fold = Fold(m)
        bits = [1 << i for i in range(fold.q.bit_length() - 1)]
        steps: Terms = [
            Step(Key(nest, 0, depth, "x" if not fold.excess else "s", b, leaders), combines=True) for b in bits
        ]
        if fold.excess:
            aside = Key(nest, 0, depth, "s", 1, leaders)
            steps = [Step(aside, combines=True), *steps, Step(aside)]
        return steps

    def back(self, terms: Terms) -> Terms:
        """Return the same terms without combining: reversed in time they gather."""
        return [replace(t, combines=False) for t in terms]  # type: ignore[type-var]
