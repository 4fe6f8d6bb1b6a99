"""The bytes that the live blocks of a context cover: two blocks that share some are found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from topocomm.rma.strides import Array, bounds

__all__ = ["REMEDY", "Issued", "Piece", "overlapping"]

REMEDY = "what comes into one would overwrite the other unseen: free it first, or alternate between two arrays"


@dataclass(frozen=True)
class Piece:
    """The bytes of a block, the number of the signal it counts at, and whom it was issued to."""

    view: Array
    signal: int
    source: int
    tag: int


class Issued:
    """The live blocks with epochs of one context; those at stream signals have none and are left out.

    Bounds are compared for all blocks at once, and only blocks whose bounds meet are compared exactly: ghost columns
    share bounds, but no elements.
    """

    def __init__(self) -> None:
        self._pieces: list[Piece | None] = []
        self._slots: dict[object, int] = {}
        self._free: list[int] = []
        self._bounds = np.zeros((2, 64), np.int64)

    def add(self, key: object, piece: Piece) -> None:
        """Remember a block under a key that no other live block has."""
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self._pieces)
            self._pieces.append(None)
            if slot == self._bounds.shape[1]:
                self._bounds = np.concatenate([self._bounds, np.zeros_like(self._bounds)], axis=1)
        self._pieces[slot], self._bounds[:, slot], self._slots[key] = piece, bounds(piece.view), slot

    def remove(self, key: object) -> None:
        """Forget a block; one that was not added is none of ours."""
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._pieces[slot], self._bounds[:, slot] = None, 0
            self._free.append(slot)

    def sharing(self, view: Array) -> Piece | None:
        """Find a block that shares bytes with the view, if there is one."""
        if view.size == 0:
            return None
        first, last = bounds(view)
        low, high = self._bounds[:, : len(self._pieces)]
        for slot in np.flatnonzero((low < last) & (high > first)):
            piece = self._pieces[slot]
            if piece is not None and np.shares_memory(piece.view, view):
                return piece
        return None

    def at(self, signals: set[int]) -> Iterator[Piece]:
        """List the blocks that count at one of these signals."""
        return (p for p in self._pieces if p is not None and p.signal in signals)


def overlapping(pieces: Iterator[Piece]) -> tuple[Piece, Piece] | None:
    """Find two blocks that share bytes, if there are any; compares only neighbours by address, not all with all."""
    reach: list[tuple[int, Piece]] = []  # blocks that end after the start of those to come
    ordered = sorted(((*bounds(p.view), p) for p in pieces if p.view.size), key=lambda entry: entry[:2])
    for first, last, piece in ordered:
        reach = [(end, other) for end, other in reach if end > first]
        for _, other in reach:
            if np.shares_memory(other.view, piece.view):
                return other, piece
        reach.append((last, piece))
    return None
