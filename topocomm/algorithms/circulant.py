"""Reduce-scatter on a circulant graph, near first; reversed, the allgather of any number of ranks.

Skips are p halved (rounded up) down to 1: ⌈lg p⌉ of them. D(o) is the greedy decomposition of an offset o into
distinct skips, and D(o − x) = D(o) without x for each x in D(o), so the skips may be taken in any order. Ascending,
the block for rank r + o leaves rank r in the round of skip s = min D(o): most blocks go to the nearest ranks.

    p = 5, skips 3, 2, 1             D: 1 = {1}  2 = {2}  3 = {3}  4 = {3, 1}
    round   rank r sends to          blocks for ranks        received blocks are combined as those for
    0       r + 1                    r + 1, r + 4            r, r + 3
    1       r + 2                    r + 2                   r
    2       r + 3                    r + 3                   r

    Requires     a commutative operation
    Rounds       ⌈lg p⌉
    Bytes sent   n (p - 1) / p per rank; n = bytes of the whole vector
    Cost         ⌈lg p⌉ α + n (p - 1) / p (β + γ)
    Memory       the vector, and the largest message received
    Locality     round of skip s leaves an aligned group of g ranks from min(s, g) of its members; composed over
                 levels, it leaves a group only in that level's rounds
    Source       J. L. Träff: Optimal, non-pipelined reduce-scatter and allreduce algorithms, arXiv:2410.14234 (2024);
                 the near-first order of the skips is ours
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from topocomm.algorithms.counting import lg, share
from topocomm.algorithms.entry import Algorithm
from topocomm.algorithms.forms import composed
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, Recv, Round, Send, shift_slots
from topocomm.schedule.compose import Flat
from topocomm.schedule.reorder import WAYS

__all__ = ["CIRCULANT", "ENTRIES", "decompose", "reduce_scatter", "skips"]


def skips(p: int) -> tuple[int, ...]:
    """Return the skips for p ranks, ascending: ⌈p/2⌉, halved and rounded up, down to 1. Empty for p = 1."""
    out = []
    while p > 1:
        p = (p + 1) // 2
        out.append(p)
    return tuple(reversed(out))


@lru_cache(maxsize=64)
def decompose(p: int) -> tuple[tuple[int, IntArray, IntArray], ...]:
    """Return for every skip s, ascending: (s, offsets o with min D(o) = s, these minus s); p − 1 offsets in all."""
    rest = np.arange(p, dtype=np.int64)
    smallest = np.zeros(p, np.int64)
    for s in reversed(skips(p)):
        taken = rest >= s
        rest[taken] -= s
        smallest[taken] = s
    table = []
    for s in skips(p):
        offsets = np.flatnonzero(smallest == s)
        table.append((s, offsets, offsets - s))
    return tuple(table)


def reduce_scatter(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's rounds over p ranks; slot x holds the block whose home is rank x."""
    return tuple(
        Round(
            (Send((r + s) % p, shift_slots(leave, r, p)),),
            (Recv((r - s) % p, shift_slots(arrive, r, p), Combine.BEFORE),),
        )
        for s, leave, arrive in decompose(p)
    )


CIRCULANT = Flat(reduce_scatter)

ENTRIES = (
    Algorithm("circulant", "reduce_scatter", "near first with half of the vector; circulant on every level",
              composed(CIRCULANT), lg, share, ways=WAYS),
)  # fmt: skip
