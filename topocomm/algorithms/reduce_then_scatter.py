"""Reduce-scatter in the order of ranks: a reduce to rank 0 along a binomial tree, then a scatter down the same tree.

It moves more bytes than others, but combines operands in the order of ranks, which an operation that is not commutative
needs. In the table it is called ``binomial``, as the trees it is made of.

    p = 4                  start   round 0     round 1     round 2     round 3
    rank 0                 0123    from 1      from 2      to 2: 23    to 1: 1
    rank 2                 0123    from 3      to 0        from 0      to 3: 3

    Requires     any p
    Rounds       2 ⌈lg p⌉ at rank 0
    Bytes sent   n and a subtree's blocks but one's own at most per rank; n = bytes of the whole vector
    Cost         ⌈lg p⌉ (α + n (β + γ)) + ⌈lg p⌉ α + n (p - 1) / p β
    Memory       one vector
    Locality     over places, where ranks stand in topology order: (G - 1) n bytes up between G places, and each block
                 down at most lg G times
    Order        operands combined in the order of ranks
    Source       the obvious composition; trees as in file binomial
"""

from __future__ import annotations

from fractions import Fraction

from topocomm.algorithms.binomial import gather_rounds, reduce_rounds
from topocomm.algorithms.counting import lg, subtree
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import one, rank_order
from topocomm.algorithms.options import Options
from topocomm.schedule import RankSchedule, Schedule, reverse_rounds
from topocomm.schedule.bulk import tree_up
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.transfers import Transfers, chain
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["ENTRIES"]


def _tree(topology: Topology) -> Tree:
    """Make the tree over places where ranks stand in topology order, else over ranks as equals."""
    return Tree(near_first_layout(topology if topology.is_sorted else rank_order(topology)))


def _build(topology: Topology, root: int, options: Options) -> Schedule:
    p, tree = topology.size, _tree(topology)

    def part(r: int) -> RankSchedule:
        rounds = reduce_rounds(tree, r, range(p)) + reverse_rounds(gather_rounds(tree, r))
        return RankSchedule(range(p), rounds, one(r))

    return Schedule(p, p, part, in_order=True)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    tree = _tree(topology)
    return chain(tree_up(tree, True), tree_up(tree, False).reversed())


def _sent(p: int) -> Fraction:
    """Count a vector to the parent, and its subtree's blocks but its own, back to its children."""
    return 1 + subtree(p) - Fraction(1, p) if p > 1 else Fraction(0)


ENTRIES = (
    Algorithm("binomial", "reduce_scatter", "reduce to rank 0 and scatter, in the order of ranks",
              Form(_build, _bulk), lambda p: 2 * lg(p), _sent, in_order=True, whole=True),
)  # fmt: skip
