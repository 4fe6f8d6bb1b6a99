"""The choice of ``shared``: a collective through memory that ranks of one host share (:mod:`topocomm.engines.node`).

It has no schedule, and so no row in the table of algorithms: every rank writes a line and reads the others'. It is
taken for vectors up to a size at which it was measured faster than the MPI libraries' own (``bench/node.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from topocomm.collectives import PREFIXES

__all__ = ["ARRAYS", "LARGEST", "MOST_RANKS", "SHARED", "Host", "cuts", "fits"]

SHARED = "shared"
ARRAYS = ("allgather", "allreduce", "alltoall", "bcast", "reduce_scatter", "reduce_scatter_block")
"""Collectives that, where ``shared`` is named, go through arrays of :func:`topocomm.empty` beyond that."""
LARGEST, MOST_RANKS = 4096, 256
"""Bytes that a rank may give in one call; ranks."""
_EACH_GIVES_A_BLOCK = ("allgather", "gather")
"""Of the other collectives a rank gives the whole vector, or the root does."""


_FASTER = ("allreduce", "barrier")
"""Where ranks outnumber cores these were faster than MPICH's and Open MPI's at every size (``bench.node``, 16 ranks on
2 cores); a broadcast was slower at some sizes."""
_MOST_WITH_CORES, _MEASURED, _UP_TO = 8, 2, 1024
"""With a core each all collectives are taken by at most 8 ranks: measured for 2, at all sizes, under both libraries and
thread levels; for more of them, whose every rank reads all lines, up to 1 KiB a rank."""


@dataclass(frozen=True)
class Host:
    """What the ranks of a communicator have alike on their common host, as far as the choice depends on it."""

    size: int
    crowded: bool
    """There are more ranks than cores that they may use."""
    multiple: bool
    """MPI was initialised for several threads (``MPI_THREAD_MULTIPLE``)."""

    def up_to(self, collective: str) -> int:
        """Return the bytes of the whole vector up to which ``shared`` is taken; -1: not at all."""
        if self.crowded:
            return largest(collective, self.size) if collective in _FASTER else -1
        if not 2 <= self.size <= _MOST_WITH_CORES:
            return -1
        return largest(collective, self.size) // (1 if self.size == _MEASURED else LARGEST // _UP_TO)

    @property
    def why(self) -> str:
        """The reason in words."""
        cores = "more ranks than cores" if self.crowded else "a core each"
        return f"{self.size} ranks of one host, {cores}: lines that they share, up to this size"


def largest(collective: str, size: int) -> int:
    """Return the bytes of the whole vector that can go through the lines and slots of ``size`` ranks; -1: none."""
    if collective in PREFIXES:
        return -1
    return LARGEST * (size if collective in _EACH_GIVES_A_BLOCK else 1)


def fits(collective: str, nbytes: int, size: int) -> bool:
    """Tell whether a vector of ``nbytes`` bytes can go that way."""
    return nbytes <= largest(collective, size)


def cuts(collective: str, size: int) -> set[int]:
    """Return the sizes at which the choice may change."""
    if collective in PREFIXES:
        return set()
    return {largest(collective, size) + 1, largest(collective, size) * _UP_TO // LARGEST + 1}
