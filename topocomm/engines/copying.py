"""Copies between pieces of memory: few pieces one by one, many equal ones by one indexed copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topocomm.arrays import Bytes, IntArray

__all__ = ["Move", "make_move"]

_FEW = 8
"""At most this many pieces are copied one by one; more by one indexed copy,"""
_LONG = 64
"""unless a piece has more units than this on average: an index for every unit would then cost more than it saves."""


@dataclass(frozen=True, slots=True)
class Move:
    """A copy of pieces from one memory to another; offsets and sizes in bytes."""

    pieces: tuple[tuple[int, int, int], ...] = ()
    """(offset in source, offset in target, bytes), if they are few."""
    unit: int = 0
    """Size of the pieces, if they are many; then piece ``take[i]`` of the source goes to piece ``put[i]``."""
    take: IntArray | None = None
    put: IntArray | None = None

    def run(self, source: Bytes, target: Bytes) -> None:
        """Copy."""
        for s, t, n in self.pieces:
            target[t : t + n] = source[s : s + n]
        if self.unit:
            rows = source[: len(source) // self.unit * self.unit].reshape(-1, self.unit)
            target[: len(target) // self.unit * self.unit].reshape(-1, self.unit)[self.put] = rows[self.take]


def make_move(source_at: IntArray, target_at: IntArray, sizes: IntArray) -> Move:
    """Return the copy of ``sizes`` bytes each from ``source_at`` to ``target_at``; neighbouring pieces are joined."""
    keep = sizes > 0
    source_at, target_at, sizes = source_at[keep], target_at[keep], sizes[keep]
    if len(sizes) == 0:
        return Move()
    ends = np.flatnonzero((np.diff(source_at) != sizes[:-1]) | (np.diff(target_at) != sizes[:-1]))
    first = np.concatenate(([0], ends + 1))
    length = np.add.reduceat(sizes, first)
    unit = int(np.gcd.reduce(np.concatenate((source_at, target_at, length))))
    if len(first) <= _FEW or int(sizes.sum()) // unit > _LONG * len(first):
        pieces = zip(source_at[first].tolist(), target_at[first].tolist(), length.tolist(), strict=True)
        return Move(tuple(pieces))
    per = length // unit
    within = np.arange(int(per.sum())) - np.repeat(np.cumsum(per) - per, per)
    take = np.repeat(source_at[first] // unit, per) + within
    put = np.repeat(target_at[first] // unit, per) + within
    return Move((), unit, take, put)
