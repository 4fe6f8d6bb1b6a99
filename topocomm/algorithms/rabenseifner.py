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

from fractions import Fraction

from topocomm.algorithms.binomial import gather_rounds, then_gather, then_gather_bulk
from topocomm.algorithms.counting import floor_lg, folds, lg, share, subtree, twice
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.folding import Fold
from topocomm.algorithms.forms import all_slots, at_root, composed, rank_order, there_and_back
from topocomm.algorithms.options import Options
from topocomm.algorithms.recursive_halving import NEAR_FIRST, far_first
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send, reverse_rounds
from topocomm.schedule.bulk import tree_up
from topocomm.schedule.compose import reduce_scatter_rounds
from topocomm.schedule.composed import composed_reduce_scatter
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.transfers import Transfers, chain, list_transfers
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["ENTRIES", "REDUCE"]


def _reduce(topology: Topology, root: int, options: Options) -> Schedule:
    layout = near_first_layout(topology)
    return then_gather(layout, topology, root, lambda v: reduce_scatter_rounds(layout, NEAR_FIRST, v))


def _reduce_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    layout = near_first_layout(topology)
    return then_gather_bulk(layout, topology, root, composed_reduce_scatter(layout, NEAR_FIRST))


def _textbook_rounds(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's rounds of the textbook allreduce; slots are the blocks of new ranks in bit-reversed order."""
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


def _textbook_allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    p = topology.size
    return all_slots(topology, Fold(p).q, lambda r: _textbook_rounds(p, r), in_order=True)


def _textbook_reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Halve far first, then gather up the binomial tree, in the order of ranks."""
    p = topology.size
    tree = Tree(near_first_layout(rank_order(topology)), root)

    def part(r: int) -> RankSchedule:
        return RankSchedule(range(p), far_first(p, r) + gather_rounds(tree, r), at_root(range(p), r, root))

    return Schedule(p, p, part, root)


def _textbook_reduce_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    p = topology.size
    halving = Schedule(p, p, lambda r: RankSchedule(range(p), far_first(p, r), range(r, r + 1)))
    return chain(list_transfers(halving), tree_up(Tree(near_first_layout(rank_order(topology)), root), False))


REDUCE = Form(_reduce, _reduce_bulk)

ENTRIES = (
    Algorithm("rabenseifner", "allreduce", "near-first reduce-scatter composed over levels, and back",
              there_and_back(composed(NEAR_FIRST)), lambda p: 2 * lg(p), twice),
    Algorithm("textbook_rabenseifner", "allreduce", "halving r ^ 1, r ^ 2, … and back; folds other p",
              Form(_textbook_allreduce), lambda p: 2 * floor_lg(p) + 2 * folds(p),
              lambda p: 2 * share(1 << floor_lg(p)) + folds(p), in_order=True),
    Algorithm("rabenseifner", "reduce", "large vectors: near-first reduce-scatter, then gather over places",
              REDUCE, lambda p: 2 * lg(p), lambda p: share(p) + subtree(p)),
    Algorithm("textbook_rabenseifner", "reduce", "far-first halving, then gather, in the order of ranks",
              Form(_textbook_reduce, _textbook_reduce_bulk), lambda p: floor_lg(p) + 2 * folds(p) + lg(p),
              lambda p: max(share(p), Fraction(folds(p))) + subtree(p)),
)  # fmt: skip
