"""Builders of the collectives with a root: trees and chains over places. See :mod:`topocomm.algorithms.forms`."""

from __future__ import annotations

import numpy as np

from topocomm.algorithms import binomial, knomial, pipeline, rabenseifner, recursive_halving, scatter_allgather
from topocomm.algorithms.forms import NONE, WHOLE, Builder, Options, by_virtual_rank, one, rank_order
from topocomm.arrays import IntArray
from topocomm.schedule import (
    RankSchedule,
    Recv,
    Round,
    Schedule,
    Send,
    Slots,
    compact,
    relabel,
    reorder,
    reverse_rounds,
)
from topocomm.schedule.compose import reduce_scatter_rounds
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology


def _at_root(slots: Slots, r: int, root: int) -> Slots:
    return slots if r == root else NONE


def binomial_reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Up the binomial tree over places; in the order of ranks, if it must be, to rank 0 and from there to the root."""
    if options.ordered and root:
        return _ordered_reduce(topology, root)
    if options.ordered and not topology.is_sorted:
        topology = rank_order(topology)
    tree = Tree(near_first_layout(topology), int(topology.virtual[root]))
    rounds = by_virtual_rank(topology, lambda v: binomial.reduce(tree, v, WHOLE))

    def part(r: int) -> RankSchedule:
        return RankSchedule(WHOLE, rounds(r), _at_root(WHOLE, r, root))

    return Schedule(topology.size, 1, part, root, in_order=root == 0 and topology.is_sorted)


def knomial_reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Up the k-nomial tree over places."""
    radices = options.radix or (knomial.RADIX,)
    tree = Tree(near_first_layout(topology), int(topology.virtual[root]), radices=radices)
    rounds = by_virtual_rank(topology, lambda v: knomial.reduce(tree, v, WHOLE))

    def part(r: int) -> RankSchedule:
        return RankSchedule(WHOLE, rounds(r), _at_root(WHOLE, r, root))

    return Schedule(topology.size, 1, part, root)


def _ordered_reduce(topology: Topology, root: int) -> Schedule:
    to_zero = binomial_reduce(topology, 0, Options(ordered=True))
    hop = {0: Round((Send(root, WHOLE),)), root: Round((), (Recv(0, WHOLE),))}

    def part(r: int) -> RankSchedule:
        rounds = to_zero.part(r).rounds + ((hop[r],) if r in hop else ())
        return RankSchedule(WHOLE, rounds, _at_root(WHOLE, r, root))

    return Schedule(topology.size, 1, part, root, in_order=True)


def binomial_reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """Reduce to rank 0 in the order of ranks, then scatter: for operations that are not commutative."""
    if not topology.is_sorted:
        topology = rank_order(topology)
    p, tree = topology.size, Tree(near_first_layout(topology))

    def part(r: int) -> RankSchedule:
        rounds = binomial.reduce(tree, r, range(p)) + reverse_rounds(binomial.gather(tree, r))
        return RankSchedule(range(p), rounds, one(r))

    return Schedule(p, p, part, in_order=True)


def blocks_reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """The composed reduce-scatter, then a gather up the tree over places."""
    layout, p = near_first_layout(topology), topology.size
    tree = Tree(layout, int(topology.virtual[root]))

    def rounds(v: int) -> tuple[Round, ...]:
        there = reduce_scatter_rounds(layout, rabenseifner.reduce_scatter, v)
        return there + relabel(binomial.gather(tree, v), None, layout.home)

    by_rank = by_virtual_rank(topology, rounds)

    def part(r: int) -> RankSchedule:
        return RankSchedule(range(p), by_rank(r), _at_root(range(p), r, root))

    return Schedule(p, p, part, root)


def textbook_blocks_bcast(topology: Topology, root: int, options: Options) -> Schedule:
    """Scatter down the binomial tree, then the ring allgather, in the order of ranks."""
    p = topology.size
    tree = Tree(near_first_layout(rank_order(topology)), root)

    def part(r: int) -> RankSchedule:
        return RankSchedule(_at_root(range(p), r, root), scatter_allgather.textbook_bcast(tree, p, r), range(p))

    return Schedule(p, p, part, root)


def textbook_blocks_reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Far-first recursive halving, then a gather up the binomial tree, in the order of ranks."""
    p = topology.size
    tree = Tree(near_first_layout(rank_order(topology)), root)

    def part(r: int) -> RankSchedule:
        body = recursive_halving.textbook_reduce_scatter(p, r) + binomial.gather(tree, r)
        return RankSchedule(range(p), body, _at_root(range(p), r, root))

    return Schedule(p, p, part, root)


def chain_order(topology: Topology, root: int) -> IntArray:
    """The ranks in the order of a chain from ``root``: those that share more places with it come first."""
    top = int(topology.virtual[root])
    shared = sum((places == places[top]).astype(np.int64) for places in topology.nesting)
    return topology.order[np.lexsort((np.arange(topology.size), -np.asarray(shared)))]


def pipeline_reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Down a chain over places to the root, in segments."""
    p, chain = topology.size, chain_order(topology, root)
    position, everything = reorder.inverse(chain), range(pipeline.SEGMENTS)

    def part(r: int) -> RankSchedule:
        body = relabel(pipeline.reduce(p, int(position[r])), chain, None)
        return RankSchedule(everything, body, _at_root(everything, r, root))

    return Schedule(p, pipeline.SEGMENTS, part, root)


def reversed_reduce(builder: Builder) -> Builder:
    """The broadcast along the messages of a reduce."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        reduce = builder(topology, root, options)

        def part(r: int) -> RankSchedule:
            back = reduce.part(r)
            return RankSchedule(back.store, reverse_rounds(back.rounds), back.load)

        return Schedule(reduce.size, reduce.nslots, part, root)

    return build


def binomial_gather(topology: Topology, root: int, options: Options) -> Schedule:
    """Up the binomial tree over places, blocks in topology order (``local``) or in rank order (``direct``)."""
    p, order, virtual = topology.size, topology.order, topology.virtual
    tree = Tree(near_first_layout(topology), int(virtual[root]))
    way = reorder.resolve(options.way, virtual)
    slots, everything = (order, range(p)) if way == "direct" else (None, compact(virtual))

    def part(r: int) -> RankSchedule:
        own = r if way == "direct" else int(virtual[r])
        body = relabel(binomial.gather(tree, int(virtual[r])), order, slots)
        return RankSchedule(one(own), body, _at_root(everything, r, root))

    return Schedule(p, p, part, root, reordering=way)


def binomial_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """The gather reversed."""
    gather = binomial_gather(topology, root, options)

    def part(r: int) -> RankSchedule:
        back = gather.part(r)
        return RankSchedule(back.store, reverse_rounds(back.rounds), back.load)

    return Schedule(topology.size, topology.size, part, root, reordering=gather.reordering)
