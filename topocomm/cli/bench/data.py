"""Test data that a wrong collective cannot get right: they differ by rank, by position and by iteration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topocomm.cli.bench.osu import Datatype

__all__ = ["MOST_CHARACTERS", "POISON", "Pattern"]

POISON = 127
"""The content of buffers before a call; no datum has this value."""

MOST_CHARACTERS = 127 * 127
"""The most ranks over which characters can be added without overflow: then one rank in 127 contributes a 1."""

_PRIME = 127


class Pattern:
    """Element i of rank r in iteration t is a small integer, a function of ``(s(i) + k(r, t)) mod 127``.

    Small integers make every sum exact in every type, and the split into position and rank makes the sum over all
    ranks one look-up in a table of 127 entries, whatever the number of ranks. `addends` is how many of them are
    added: characters are kept so small that their sum does not overflow, which MPI libraries treat differently (some
    wrap, some saturate).
    """

    def __init__(self, elements: int, datatype: Datatype, addends: int = 1) -> None:
        self._addends = addends if datatype.itemsize == 1 else 1
        index = np.arange(elements, dtype=np.int64)
        mixed = 7 * index + 3 * (index // _PRIME) + 5 * (index // _PRIME**2)
        self._positions = (mixed % _PRIME).astype(np.intp)
        self._dtype = np.dtype(datatype.dtype)

    def of(self, rank: int, iteration: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return elements `start` to `stop` of the contribution of `rank` in `iteration`."""
        return self._look_up(self._table(rank, iteration), start, stop)

    def total(self, ranks: Iterable[int], iteration: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Sum the contributions of `ranks`, element by element."""
        table = np.zeros(_PRIME, dtype=np.int64)
        for rank in ranks:
            table += self._table(rank, iteration)
        return self._look_up(table, start, stop)

    def _look_up(self, table: NDArray[np.int64], start: int, stop: int | None) -> NDArray[Any]:
        values: NDArray[Any] = table.astype(self._dtype)[self._positions[start:stop]]
        return values

    def _table(self, rank: int, iteration: int) -> NDArray[np.int64]:
        shift = 13 * rank + 17 * (rank // _PRIME) + 31 * iteration
        table: NDArray[np.int64] = (np.arange(_PRIME, dtype=np.int64) + shift) % _PRIME
        if self._addends > _PRIME:
            return np.where(table == 0, np.int64(1), np.int64(0))
        return np.remainder(table, _PRIME // self._addends + 1)
