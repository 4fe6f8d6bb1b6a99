"""Binomial trees: gather and reduce; reversed, scatter and broadcast.

A rank collects from subtrees of 1, 2, 4, … ranks and then hands everything to its parent. Over places, the ranks of a
place collect at its leader along a binomial tree, and leaders collect along a binomial tree of places: everything
leaves a place once.

    p = 5, gather to 0     round 0        round 1        round 2
    rank 0                 from 1: 1      from 2: 23     from 4: 4
    rank 2                 from 3: 3      to 0: 23

    Requires     reduce: a commutative operation unless ranks stand in tree order (then operands are combined in order)
    Rounds       ⌈lg p⌉ at the root
    Bytes sent   gather: a rank sends its whole subtree once; reduce: n per rank; n = bytes of the vector
    Cost         ⌈lg p⌉ α + n (p - 1) / p β (gather), ⌈lg p⌉ (α + n (β + γ)) (reduce)
    Memory       a rank's subtree (gather), one vector (reduce)
    Locality     over places: G - 1 messages between G places, (G - 1) n bytes for broadcast and reduce: the least
    Source       R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in MPICH,
                 IJHPCA 19 (2005), §4.3
"""

from __future__ import annotations

from fractions import Fraction

from topocomm.algorithms.counting import lg, share, subtree, whole_vector
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import (
    WHOLE,
    RankRounds,
    at_root,
    backwards,
    by_virtual_rank,
    in_rank_order,
    one,
    rank_order,
)
from topocomm.algorithms.options import Options
from topocomm.schedule import Combine, Item, RankSchedule, Recv, Round, Schedule, Send, Slots, compact, relabel
from topocomm.schedule.bulk import tree_up
from topocomm.schedule.layout import Layout, near_first_layout
from topocomm.schedule.reorder import resolve
from topocomm.schedule.transfers import Transfers, chain
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["ENTRIES", "gather_rounds", "reduce_rounds", "then_gather", "then_gather_bulk"]


def gather_rounds(tree: Tree, r: int) -> tuple[Round, ...]:
    """Make rank r's rounds of a gather; slot x holds the block of rank x."""
    rounds = [Round((), (Recv(child, subtree),)) for child, subtree in tree.children(r)]
    parent = tree.parent(r)
    if parent is not None:
        rounds.append(Round((Send(parent, tree.subtree(r)),)))
    return tuple(rounds)


def reduce_rounds(tree: Tree, r: int, slots: Slots = WHOLE) -> tuple[Round, ...]:
    """Make rank r's rounds of a reduce; the vector is ``slots`` on every rank."""
    rounds = [Round((), (Recv(child, slots, Combine.AFTER),)) for child, _ in tree.children(r)]
    parent = tree.parent(r)
    if parent is not None:
        rounds.append(Round((Send(parent, slots),)))
    return tuple(rounds)


def then_gather(layout: Layout, topology: Topology, root: int, rounds: RankRounds) -> Schedule:
    """Make a reduce: a reduce-scatter by ``rounds`` of virtual ranks, then its blocks up the tree over places."""
    p, tree = topology.size, Tree(layout, int(topology.virtual[root]))

    def both(v: int) -> tuple[Item, ...]:
        return rounds(v) + relabel(gather_rounds(tree, v), None, layout.home)

    by_rank = by_virtual_rank(topology, both)
    return Schedule(p, p, lambda r: RankSchedule(range(p), by_rank(r), at_root(range(p), r, root)), root)


def then_gather_bulk(layout: Layout, topology: Topology, root: int, there: Transfers) -> Transfers:
    """List the messages of :func:`then_gather`, whose reduce-scatter is ``there`` between virtual ranks."""
    up = tree_up(Tree(layout, int(topology.virtual[root])), False)
    return chain(there, up).relabelled(topology.order)


def _reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Go up the tree over places; in the order of ranks, if it must be, to rank 0 and from there to the root."""
    if options.ordered and root:
        return _ordered_reduce(topology, root)
    if options.ordered and not topology.is_sorted:
        topology = rank_order(topology)
    tree = Tree(near_first_layout(topology), int(topology.virtual[root]))
    rounds = by_virtual_rank(topology, lambda v: reduce_rounds(tree, v))

    def part(r: int) -> RankSchedule:
        return RankSchedule(WHOLE, rounds(r), at_root(WHOLE, r, root))

    return Schedule(topology.size, 1, part, root, in_order=root == 0 and topology.is_sorted)


def _ordered_reduce(topology: Topology, root: int) -> Schedule:
    to_zero = _reduce(topology, 0, Options(ordered=True))
    hop = {0: Round((Send(root, WHOLE),)), root: Round((), (Recv(0, WHOLE),))}

    def part(r: int) -> RankSchedule:
        rounds = to_zero.part(r).items + ((hop[r],) if r in hop else ())
        return RankSchedule(WHOLE, rounds, at_root(WHOLE, r, root))

    return Schedule(topology.size, 1, part, root, in_order=True)


def _gather(topology: Topology, root: int, options: Options) -> Schedule:
    """Go up the tree over places, blocks in topology order (``local``) or in rank order (``direct``)."""
    p, order, virtual = topology.size, topology.order, topology.virtual
    tree = Tree(near_first_layout(topology), int(virtual[root]))
    way = resolve(options.way, virtual)
    slots, everything = (order, range(p)) if way == "direct" else (None, compact(virtual))

    def part(r: int) -> RankSchedule:
        own = r if way == "direct" else int(virtual[r])
        body = relabel(gather_rounds(tree, int(virtual[r])), order, slots)
        return RankSchedule(one(own), body, at_root(everything, r, root))

    return Schedule(p, p, part, root, reordering=way)


def _up(topology: Topology, root: int, whole: bool) -> Transfers:
    tree = Tree(near_first_layout(topology), int(topology.virtual[root]))
    return tree_up(tree, whole).relabelled(topology.order)


_REDUCE = Form(_reduce, lambda topology, root, options: _up(topology, root, True))
_GATHER = Form(_gather, lambda topology, root, options: _up(topology, root, False))
_DIRECT = ("none", "local", "direct")


def _each_time(p: int) -> Fraction:
    return Fraction(lg(p))


ENTRIES = (
    Algorithm("binomial", "bcast", "small vectors: a binomial tree over places",
              backwards(_REDUCE), lg, _each_time),
    Algorithm("textbook_binomial", "bcast", "a binomial tree in the order of ranks",
              in_rank_order(backwards(_REDUCE)), lg, _each_time),
    Algorithm("binomial", "reduce", "small vectors: a binomial tree over places",
              _REDUCE, lg, whole_vector, in_order=True, whole=True),
    Algorithm("textbook_binomial", "reduce", "a binomial tree in the order of ranks",
              in_rank_order(_REDUCE), lg, whole_vector, in_order=True, whole=True),
    Algorithm("binomial", "gather", "a binomial tree over places",
              _GATHER, lg, subtree, ways=_DIRECT),
    Algorithm("textbook_binomial", "gather", "a binomial tree in the order of ranks",
              in_rank_order(_GATHER), lg, subtree),
    Algorithm("binomial", "scatter", "a binomial tree over places",
              backwards(_GATHER), lg, share, ways=_DIRECT),
    Algorithm("textbook_binomial", "scatter", "a binomial tree in the order of ranks",
              in_rank_order(backwards(_GATHER)), lg, share),
)  # fmt: skip
