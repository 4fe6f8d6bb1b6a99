"""Reduce-scatter by recursive halving, near first and far first.

In every round a rank exchanges half of what it still holds with one peer and combines what it receives. Near first
visits r ^ 1, r ^ 2, r ^ 4, …: the half of the vector goes to the nearest rank. The textbook form visits the farthest
rank first and therefore sends the half of the vector to it.

    p = 4, slots = home ranks         start    round 0        round 1        holds
    near first, rank 0                0123     r ^ 1: 0.2.    r ^ 2: 0...    block 0 of all ranks
    far first, rank 0 (textbook)      0123     r ^ 2: 01..    r ^ 1: 0...    block 0 of all ranks

In bit-reversed slots (the layout of near-first composition) every near-first message is one contiguous run.

    Requires     a commutative operation; other p than powers of two are circulant near first (file circulant), and
                 the textbook form folds them to the next lower power
    Rounds       ⌈lg p⌉, and where it folds ⌊lg p⌋ + 2
    Bytes sent   n (p - 1) / p per rank; n = bytes of the whole vector
    Cost         lg p α + n (p - 1) / p (β + γ)
    Memory       the vector, and the largest message received
    Locality     near first: an aligned group of g ranks is left in the last lg (p / g) rounds, with n / g bytes per
                 rank together; far first: in the first rounds, with n (1 - g / p) bytes per rank
    Source       R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in MPICH,
                 IJHPCA 19 (2005), §4.4; data reordering to near peers: doi 10.1145/3524059.3532380 (2022)
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from topocomm.algorithms import circulant
from topocomm.algorithms.counting import floor_lg, folds, lg, share
from topocomm.algorithms.entry import Algorithm
from topocomm.algorithms.folding import Fold
from topocomm.algorithms.forms import composed, textbook_reduce_scatter
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, Recv, Round, Send, exchange
from topocomm.schedule.compose import Flat, around
from topocomm.schedule.reorder import WAYS

__all__ = ["ENTRIES", "NEAR_FIRST", "far_first", "near_first"]


def near_first(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's near-first rounds for any p; slot x holds the block whose home is rank x."""
    if p & (p - 1):
        return circulant.reduce_scatter(p, r)
    rounds, bit = [], 1
    while bit < p:
        there, here = (r ^ bit) % (2 * bit), r % (2 * bit)
        rounds.append(exchange(r ^ bit, range(there, p, 2 * bit), range(here, p, 2 * bit), Combine.BEFORE))
        bit *= 2
    return tuple(rounds)


def _turn(m: int, numbers: IntArray, child: IntArray) -> IntArray:
    return around(m, numbers, child) if m & (m - 1) else np.bitwise_xor(numbers, child)


NEAR_FIRST = Flat(near_first, _turn)


def far_first(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's far-first rounds for any p; slot x holds the block whose home is rank x.

    Other p than powers of two fold: of the first 2 (p − q) ranks (q the power of two below p) each even one gives
    its vector to the odd one after it, and gets its block back at the end.
    """
    fold = Fold(p)
    new = fold.new_rank(r)
    if new is None:
        return (Round((Send(r + 1, range(p)),)), Round((), (Recv(r + 1, range(r, r + 1)),)))
    rounds = [Round((), (Recv(r - 1, range(p), Combine.BEFORE),))] if fold.absorbs(r) else []
    low, high = 0, fold.q  # the new ranks whose blocks this rank still holds
    while high - low > 1:
        middle = (low + high) // 2
        upper = new >= middle
        peer = new - (middle - low) if upper else new + (middle - low)
        halves = fold.slots(low, middle), fold.slots(middle, high)
        rounds.append(exchange(fold.old_rank(peer), halves[not upper], halves[upper], Combine.BEFORE))
        low, high = (middle, high) if upper else (low, middle)
    if fold.absorbs(r):
        rounds.append(Round((Send(r - 1, range(r - 1, r)),)))
    return tuple(rounds)


ENTRIES = (
    Algorithm("recursive_halving", "reduce_scatter", "near first with half of the vector; or circulant",
              composed(NEAR_FIRST), lg, share, ways=WAYS),
    Algorithm("textbook_recursive_halving", "reduce_scatter", "half of the vector to the farthest rank; folds other p",
              textbook_reduce_scatter(far_first), lambda p: floor_lg(p) + 2 * folds(p),
              lambda p: max(share(p), Fraction(folds(p)))),
)  # fmt: skip
