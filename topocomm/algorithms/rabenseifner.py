"""Rabenseifner's allreduce and reduce: a reduce-scatter, then an allgather or a gather.

The topology-aware allreduce is near-first recursive halving where a level has a power of two of members and the
near-first circulant reduce-scatter where it has not, composed over levels, and then the same rounds backwards: no
folding for any number of ranks, and no reordering left over, because the blocks end where they began. The
topology-aware reduce gathers the blocks along the binomial tree over places instead.

    p = 4, rank 0          start    round 0 (1)   round 1 (2)   round 2 (2)   round 3 (1)
    blocks held            0123     0.2.          0...          0.2.          0123
    of so many ranks       1        2             4             4             4

The textbook form counts ranks in the order of the communicator and folds numbers that are no power of two: two
more rounds, each with a whole vector.

    Requires     a commutative operation
    Rounds       2 ⌈lg p⌉ on one level (textbook: 2 lg q, and 2 where it folds; q the power of two below p)
    Bytes sent   2 n (p - 1) / p per rank; n = bytes of the vector
    Cost         2 ⌈lg p⌉ α + n (p - 1) / p (2 β + γ)
    Memory       the largest message received: about n / 2
    Locality     composed over G places of any size: 2 (G - 1) n bytes between them, the least possible
    Source       R. Rabenseifner: Optimization of collective reduction operations, ICCS 2004; data reordering to near
                 peers: doi 10.1145/3524059.3532380 (2022)
"""

from __future__ import annotations

from topocomm.algorithms import circulant, recursive_halving
from topocomm.algorithms.folding import Fold
from topocomm.schedule import Combine, Recv, Round, Send, reverse_rounds

__all__ = ["reduce_scatter", "textbook_allreduce", "textbook_slots"]


def reduce_scatter(p: int, r: int) -> tuple[Round, ...]:
    """Rank r's near-first reduce-scatter rounds for any p; slot x holds the block whose home is rank x."""
    return circulant.reduce_scatter(p, r) if p & (p - 1) else recursive_halving.reduce_scatter(p, r)


def textbook_slots(p: int) -> int:
    """The number of blocks into which the textbook form cuts the vector: the power of two below p."""
    return Fold(p).q


def textbook_allreduce(p: int, r: int) -> tuple[Round, ...]:
    """Rank r's rounds for any p; slots are the blocks of the new ranks in bit-reversed order."""
    fold = Fold(p)
    vector = range(fold.q)
    new = fold.new_rank(r)
    if new is None:
        return (Round((Send(r + 1, vector),)), Round((), (Recv(r + 1, vector),)))
    rounds = [Round((), (Recv(r - 1, vector, Combine.BEFORE),))] if fold.absorbs(r) else []
    low, high, bit = 0, fold.q, 1
    inner = []
    while bit < fold.q:
        middle = (low + high) // 2
        halves = range(low, middle), range(middle, high)
        upper = bool(new & bit)
        send, keep = halves[not upper], halves[upper]
        peer = fold.old_rank(new ^ bit)
        order = Combine.BEFORE if upper else Combine.AFTER
        inner.append(Round((Send(peer, send),), (Recv(peer, keep, order),)))
        low, high, bit = keep.start, keep.stop, 2 * bit
    rounds += inner
    rounds += reverse_rounds(inner)
    if fold.absorbs(r):
        rounds.append(Round((Send(r - 1, vector),)))
    return tuple(rounds)
