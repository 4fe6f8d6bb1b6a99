"""Pairwise exchange: reduce-scatter and all-to-all, every block straight to its home.

In round s rank r sends the block for r + s and receives its own from r − s.

    p = 4, rank 0      round 0 (self)   round 1       round 2       round 3
    to / from          0 / 0            1 / 3         2 / 2         3 / 1

Scattered, the all-to-all has WINDOW of these messages under way at a time: better for all but the largest blocks.
The topology-aware all-to-all counts r in topology order: near peers first. The topology-aware reduce-scatter is
composed over levels: inside a place first, so that only one combined copy of a block leaves it.

    Requires     reduce-scatter: a commutative operation
    Rounds       p - 1, and the all-to-all one round in which a rank copies its own block; scattered ⌈p / WINDOW⌉
    Bytes sent   n (p - 1) / p per rank; n = bytes of the rank's whole vector
    Cost         (p - 1) α + n (p - 1) / p β
    Memory       none (all-to-all); one block (reduce-scatter)
    Locality     all-to-all: every block crosses every boundary at most once, which is the least possible
    Source       R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in MPICH,
                 IJHPCA 19 (2005), §4.2 and §4.4
"""

from __future__ import annotations

from topocomm.schedule import Combine, Recv, Round, Send

__all__ = ["WINDOW", "alltoall", "reduce_scatter", "scattered"]

WINDOW = 32


def _one(x: int) -> range:
    return range(x, x + 1)


def reduce_scatter(p: int, r: int) -> tuple[Round, ...]:
    """Rank r's rounds; slot x holds the block whose home is rank x."""
    return tuple(
        Round((Send((r + s) % p, _one((r + s) % p)),), (Recv((r - s) % p, _one(r), Combine.BEFORE),))
        for s in range(1, p)
    )


def alltoall(p: int, r: int) -> tuple[Round, ...]:
    """Rank r's rounds; slot x holds the block for rank x, slot p + x receives the block of rank x."""
    return tuple(
        Round((Send((r + s) % p, _one((r + s) % p)),), (Recv((r - s) % p, _one(p + (r - s) % p)),)) for s in range(p)
    )


def scattered(rounds: tuple[Round, ...]) -> tuple[Round, ...]:
    """WINDOW rounds of an all-to-all at a time as one."""
    groups = [rounds[i : i + WINDOW] for i in range(0, len(rounds), WINDOW)]
    return tuple(
        Round(tuple(s for rnd in group for s in rnd.sends), tuple(r for rnd in group for r in rnd.recvs))
        for group in groups
    )
