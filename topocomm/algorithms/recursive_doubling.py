"""Recursive doubling: allreduce of small vectors, and the textbook allgather.

In round k of the butterfly rank r exchanges with r ^ 2^k: in an allreduce the whole vector, which both combine; in an
allgather everything held so far.

    allgather, p = 4     start      round 0 (r ^ 1)   round 1 (r ^ 2)
    rank 0               0...       01..              0123
    rank 1               .1..       01..              0123
    rank 2               ..2.       ..23              0123
    rank 3               ...3       ..23              0123

The textbook allgather sends its largest message, half of the result, to the farthest rank. The topology-aware
allgather of this name is near-first recursive halving reversed (file recursive_halving): far first with one block,
near last with half of the result. The topology-aware allreduce reduces inside each outermost place along a
binomial tree, doubles among the places' leaders only, and hands the result down the same trees.

    Requires     allgather: p a power of two; allreduce: any p, others than powers of two fold (2 rounds more)
    Rounds       lg p; over places of g ranks in G places: ⌈lg G⌉ (+ 2 if folded) + 2 ⌈lg g⌉
    Bytes sent   allgather n (p - 1) / p, allreduce n lg p per rank
    Cost         lg p α + n (p - 1) / p β, or lg p (α + n (β + γ))
    Memory       none beyond the result (allgather); one vector (allreduce)
    Locality     allgather: leaves an aligned group of g ranks in the last lg (p / g) rounds with n (1 - g / p) bytes
                 per rank; allreduce over places: G lg G messages of n bytes between places in all, for any p
    Order        operands combined in the order of ranks
    Source       R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in MPICH,
                 IJHPCA 19 (2005), §4.1 and §4.5
"""

from __future__ import annotations

from fractions import Fraction

from topocomm.algorithms.counting import floor_lg, folds, lg, share
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.folding import Fold
from topocomm.algorithms.forms import WHOLE, all_slots, backwards, composed, textbook_allgather
from topocomm.algorithms.leaders import among_leaders
from topocomm.algorithms.options import Options
from topocomm.algorithms.recursive_halving import NEAR_FIRST
from topocomm.schedule import Combine, Recv, Round, Schedule, Send, exchange
from topocomm.schedule.reorder import WAYS
from topocomm.topology import Topology

__all__ = ["ENTRIES", "doubling"]


def doubling(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's rounds of an allreduce for any p; the whole vector is slot 0.

    All ranks combine the same operands in the same order.
    """
    fold = Fold(p)
    new = fold.new_rank(r)
    if new is None:
        return (Round((Send(r + 1, WHOLE),)), Round((), (Recv(r + 1, WHOLE),)))
    rounds = [Round((), (Recv(r - 1, WHOLE, Combine.BEFORE),))] if fold.absorbs(r) else []
    bit = 1
    while bit < fold.q:
        order = Combine.BEFORE if new & bit else Combine.AFTER
        rounds.append(exchange(fold.old_rank(new ^ bit), WHOLE, WHOLE, order))
        bit *= 2
    if fold.absorbs(r):
        rounds.append(Round((Send(r - 1, WHOLE),)))
    return tuple(rounds)


def _textbook_allgather(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's rounds for p a power of two; slot x holds the block of rank x."""
    rounds, bit = [], 1
    while bit < p:
        mine, theirs = r & ~(bit - 1), (r ^ bit) & ~(bit - 1)
        rounds.append(exchange(r ^ bit, range(mine, mine + bit), range(theirs, theirs + bit)))
        bit *= 2
    return tuple(rounds)


def _textbook_allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    p = topology.size
    return all_slots(topology, 1, lambda r: doubling(p, r), in_order=True)


def _doubling_rounds(p: int) -> int:
    return floor_lg(p) + 2 * folds(p)


def _doubling_sent(p: int) -> Fraction:
    return Fraction(floor_lg(p) + folds(p))


ENTRIES = (
    Algorithm("recursive_doubling", "allgather", "far first with one block; halving reversed, or circulant",
              backwards(composed(NEAR_FIRST)), lg, share, ways=WAYS),
    Algorithm("textbook_recursive_doubling", "allgather", "r ^ 1, r ^ 2, …: the last and largest message goes farthest",
              textbook_allgather(_textbook_allgather), lg, share, power_of_two=True),
    Algorithm("recursive_doubling", "allreduce", "small vectors: doubling among the leaders of places",
              among_leaders(doubling, 1), _doubling_rounds, _doubling_sent, in_order=True, whole=True),
    Algorithm("textbook_recursive_doubling", "allreduce", "r ^ 1, r ^ 2, … with the whole vector",
              Form(_textbook_allreduce), _doubling_rounds, _doubling_sent, in_order=True, whole=True),
)  # fmt: skip
