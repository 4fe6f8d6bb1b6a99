"""Rank arithmetic of folding: p ranks reduced to the q = 2^⌊lg p⌋ that a butterfly needs.

Of the first 2 (p − q) ranks every even one is paired with the odd one after it; the odd one takes part for both.
Pairs are neighbours and stay in order, so folding keeps the order of operands.
"""

from __future__ import annotations

__all__ = ["Fold"]


class Fold:
    """The folding of p ranks to ``q`` new ranks; ``excess`` = p − q ranks sit out."""

    def __init__(self, p: int) -> None:
        self.q = 1 << (p.bit_length() - 1)
        self.excess = p - self.q

    def absorbs(self, r: int) -> bool:
        """Whether rank r takes part for rank r − 1, too."""
        return r < 2 * self.excess and r % 2 == 1

    def new_rank(self, r: int) -> int | None:
        """The new rank of r, or None if it sits out."""
        if r >= 2 * self.excess:
            return r - self.excess
        return r // 2 if r % 2 else None

    def old_rank(self, new: int) -> int:
        """The rank that takes part as ``new``."""
        return 2 * new + 1 if new < self.excess else new + self.excess

    def slots(self, low: int, high: int) -> range:
        """The blocks of all ranks for which the new ranks ``low`` … ``high − 1`` take part."""
        return range(low + min(low, self.excess), high + min(high, self.excess))
