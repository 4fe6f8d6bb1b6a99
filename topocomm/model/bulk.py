"""The transfers of the table's algorithms, made for all ranks at once.

Each function gives exactly what :func:`topocomm.schedule.transfers.list_transfers` reads from the schedule
(rounds may be numbered otherwise, with the same order on every rank; the rounds of a ring are one entry that repeats).
Names that are not listed here, or carry options, are read from the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from topocomm.algorithms import circulant, k_trees, knomial, multilane, pairwise, rabenseifner, two_trees
from topocomm.algorithms.bruck import alltoall_hops
from topocomm.algorithms.forms import Options, regular_extents
from topocomm.algorithms.recursive_doubling import allreduce as doubling
from topocomm.algorithms.rooted import chain_order
from topocomm.algorithms.table import find, make_schedule
from topocomm.arrays import IntArray
from topocomm.model import rivals
from topocomm.model.composed import composed_reduce_scatter
from topocomm.model.leveled import leveled_transfers
from topocomm.model.listing import SAMPLED, all_pairs, chain_up, make, ring, scattered, tree_up, trees_up
from topocomm.schedule import RankSchedule, Schedule
from topocomm.schedule.compose import Flat
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.transfers import Transfers, chain, list_transfers
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology, in_label_order

__all__ = ["transfers"]

Bulk: TypeAlias = Callable[[Topology, int], Transfers]


def _flat(p: int) -> Topology:
    return Topology.flat(p)


def _composed(flat: Flat, back: bool = False, there: bool = True) -> Bulk:
    def bulk(topology: Topology, root: int) -> Transfers:
        first = composed_reduce_scatter(near_first_layout(topology), flat)
        parts = ([first] if there else []) + ([first.reversed()] if back else [])
        return chain(*parts).relabelled(topology.order)

    return bulk


def _ring(there: bool, back: bool, sorted_ranks: bool) -> Bulk:
    def bulk(topology: Topology, root: int) -> Transfers:
        once = ring(topology.size)
        whole = chain(*([once] if there else []), *([once.reversed()] if back else []))
        return whole.relabelled(topology.order) if sorted_ranks else whole

    return bulk


def _pairs(sorted_ranks: bool) -> Bulk:
    def bulk(topology: Topology, root: int) -> Transfers:
        pairs = all_pairs(topology.size)
        return pairs.relabelled(topology.order) if sorted_ranks else pairs

    return bulk


def _tree(whole: bool, down: bool, sorted_ranks: bool) -> Bulk:
    def bulk(topology: Topology, root: int) -> Transfers:
        seen = topology if sorted_ranks else _flat(topology.size)
        up = tree_up(Tree(near_first_layout(seen), int(seen.virtual[root])), whole)
        return (up.reversed() if down else up).relabelled(seen.order)

    return bulk


def _scattered(topology: Topology, root: int) -> Transfers:
    return scattered(topology.size, SAMPLED).relabelled(topology.order)


def _pipeline(down: bool) -> Bulk:
    def bulk(topology: Topology, root: int) -> Transfers:
        up = chain_up(topology.size)
        return (up.reversed() if down else up).relabelled(chain_order(topology, root))

    return bulk


def _forest(name: str, down: bool, options: Options) -> Bulk:
    def bulk(topology: Topology, root: int) -> Transfers:
        if name == "k_trees":
            trees, segments = k_trees.forest(topology, root, *options.radix), k_trees.SEGMENTS
        else:
            trees, segments = two_trees.forest(in_label_order(topology), root), two_trees.SEGMENTS
        up = trees_up(trees, root, options.segments or segments)
        return up.reversed() if down else up

    return bulk


def _among_leaders(middle: Flat, empty: bool) -> Bulk:
    """Up to the leaders of the outermost places, ``middle`` among these, and down again."""

    def bulk(topology: Topology, root: int) -> Transfers:
        layout = near_first_layout(topology)
        up = tree_up(Tree(layout, outermost=1), True)
        parts = [up]
        if layout.depth:
            leaders = layout.first[1][:-1]
            size, whole = len(leaders), range(1)
            among = list_transfers(Schedule(size, 1, lambda r: RankSchedule(whole, middle(size, r), whole)))
            parts.append(_widened(among, leaders, topology.size))
        out = chain(*parts, up.reversed()).relabelled(topology.order)
        if not empty:
            return out
        return make(out.size, 0, out.source, out.target, out.send_round, out.blocks * 0)

    return bulk


def _widened(part: Transfers, ranks: IntArray, size: int) -> Transfers:
    moved = part.relabelled(ranks)
    columns = (moved.source, moved.target, moved.send_round, moved.recv_round, moved.blocks, moved.repeat)
    return Transfers(size, part.vector, *columns)


def _bruck_alltoall(radix: int, sorted_ranks: bool) -> Bulk:
    def bulk(topology: Topology, root: int) -> Transfers:
        seen = topology if sorted_ranks else _flat(topology.size)
        p, extents = seen.size, regular_extents(seen)
        phases, _ = alltoall_hops(extents, [radix] * len(extents))
        digits = np.array(np.unravel_index(np.arange(p), extents))
        target, number, blocks = [], [], []
        for i, phase in enumerate(phases):
            for hop in phase:
                there = (digits + np.array(hop.steps)[:, None]) % np.array(extents)[:, None]
                target.append(np.ravel_multi_index(tuple(there), extents))
                number.append(np.full(p, i))
                blocks.append(np.full(p, len(hop.leave)))
        if not target:
            return list_transfers(make_schedule("alltoall", "bruck", topology))
        source = np.tile(np.arange(p), len(target))
        joined = (np.concatenate(a) for a in (target, number, blocks))
        return make(p, p, source, *joined).relabelled(seen.order)

    return bulk


def _textbook_bruck(topology: Topology, root: int) -> Transfers:
    p = topology.size
    r = np.arange(p, dtype=np.int64)
    have = [1 << i for i in range((p - 1).bit_length())]
    if not have:
        return list_transfers(make_schedule("allgather", "textbook_bruck", topology))
    target = np.concatenate([(r - h) % p for h in have])
    number = np.repeat(np.arange(len(have)), p)
    blocks = np.repeat([min(h, p - h) for h in have], p)
    return make(p, p, np.tile(r, len(have)), target, number, blocks)


def _dissemination(topology: Topology, root: int) -> Transfers:
    p = topology.size
    r = np.arange(p, dtype=np.int64)
    rounds = (p - 1).bit_length()
    target = np.concatenate([(r + (1 << i)) % p for i in range(rounds)] or [r[:0]])
    number = np.repeat(np.arange(rounds), p)
    return make(p, 0, np.tile(r, rounds), target, number, number * 0)


def _then(*bulks: Bulk) -> Bulk:
    return lambda topology, root: chain(*(bulk(topology, root) for bulk in bulks))


def _binomial_reduce_scatter(topology: Topology, root: int) -> Transfers:
    seen = topology if topology.is_sorted else _flat(topology.size)
    tree = Tree(near_first_layout(seen))
    return chain(tree_up(tree, True), tree_up(tree, False).reversed())


def _halving_and_gather(topology: Topology, root: int) -> Transfers:
    halving = list_transfers(make_schedule("reduce_scatter", "textbook_recursive_halving", topology))
    return chain(halving, _tree(False, False, False)(topology, root))


def _back(bulk: Bulk) -> Bulk:
    return lambda topology, root: bulk(topology, root).reversed()


def _there_and_back(bulk: Bulk) -> Bulk:
    return _then(bulk, _back(bulk))


def _lanes(bulk: Bulk) -> Bulk:
    return lambda topology, root: bulk(multilane.lanes(topology), root)


_near_first = _composed(rabenseifner.reduce_scatter)
_near_first_back = _composed(rabenseifner.reduce_scatter, back=True, there=False)
_reduce_scatter: Mapping[str, Bulk] = {
    "recursive_halving": _near_first,
    "circulant": _composed(circulant.reduce_scatter),
    "pairwise": _composed(pairwise.reduce_scatter),
    "ring": _ring(True, False, True),
    "binomial": _binomial_reduce_scatter,
    "direct": rivals.direct_reduce_scatter,
    "multilane": _lanes(_near_first),
    "textbook_pairwise": _pairs(False),
    "textbook_bine": rivals.bine_reduce_scatter,
    "textbook_pat": _back(rivals.pat_allgather),
    "textbook_recexch": rivals.recexch_reduce_scatter,
}
BULK: Mapping[str, Mapping[str, Bulk]] = MappingProxyType(
    {
        "allgather": {
            "recursive_doubling": _near_first_back,
            "bruck": _composed(circulant.reduce_scatter, back=True, there=False),
            "ring": _ring(False, True, True),
            "direct": _back(rivals.direct_reduce_scatter),
            "multilane": _lanes(_near_first_back),
            "textbook_bruck": _textbook_bruck,
            "textbook_ring": _ring(False, True, False),
            "textbook_bine": _back(rivals.bine_reduce_scatter),
            "textbook_sparbit": rivals.sparbit_allgather,
            "textbook_pat": rivals.pat_allgather,
            "textbook_recexch": _back(rivals.recexch_reduce_scatter),
        },
        "allreduce": {
            "recursive_doubling": _among_leaders(doubling, False),
            "rabenseifner": _composed(rabenseifner.reduce_scatter, back=True),
            "ring": _ring(True, True, True),
            "direct": rivals.direct_allreduce,
            "multilane": _lanes(_composed(rabenseifner.reduce_scatter, back=True)),
            "textbook_ring": _ring(True, True, False),
            "textbook_bine": _there_and_back(rivals.bine_reduce_scatter),
            "textbook_swing": _there_and_back(rivals.swing_reduce_scatter),
        },
        "reduce_scatter": _reduce_scatter,
        "reduce_scatter_block": _reduce_scatter,
        "alltoall": {
            "bruck": _bruck_alltoall(8, True),
            "pairwise": _pairs(True),
            "scattered": _scattered,
            "textbook_bruck": _bruck_alltoall(2, False),
            "textbook_pairwise": _pairs(False),
        },
        "bcast": {
            "binomial": _tree(True, True, True),
            "scatter_allgather": _then(_tree(False, True, True), _near_first_back),
            "pipeline": _pipeline(True),
            "multilane": rivals.multilane_bcast,
            "textbook_binomial": _tree(True, True, False),
            "textbook_scatter_allgather": _then(_tree(False, True, False), _ring(False, True, False)),
        },
        "reduce": {
            "binomial": _tree(True, False, True),
            "rabenseifner": _then(_near_first, _tree(False, False, True)),
            "pipeline": _pipeline(False),
            "textbook_binomial": _tree(True, False, False),
            "textbook_rabenseifner": _halving_and_gather,
        },
        "gather": {"binomial": _tree(False, False, True), "textbook_binomial": _tree(False, False, False)},
        "scatter": {"binomial": _tree(False, True, True), "textbook_binomial": _tree(False, True, False)},
        "barrier": {"textbook_dissemination": _dissemination},
    }
)


def transfers(collective: str, text: str, topology: Topology, root: int = 0) -> Transfers:
    """All messages of ``collective`` by the algorithm called ``text`` on ``topology``.

    Raises AlgorithmError as :func:`topocomm.algorithms.make_schedule` does.
    """
    algorithm, options = find(collective, text)
    algorithm.check(topology.size)
    if algorithm.name == "leveled" and 0 <= root < topology.size:
        return leveled_transfers(collective, options.levels, topology, root, options.segments or 1)
    if algorithm.name == "knomial" and 0 <= root < topology.size:
        tree = Tree(near_first_layout(topology), int(topology.virtual[root]), radices=options.radix or (knomial.RADIX,))
        up = tree_up(tree, True)
        return (up.reversed() if collective == "bcast" else up).relabelled(topology.order)
    bulk = BULK.get(collective, {}).get(text)
    if algorithm.name in ("k_trees", "two_trees"):
        bulk = _forest(algorithm.name, collective == "bcast", options)
    if bulk is None or not 0 <= root < topology.size:
        return list_transfers(make_schedule(collective, text, topology, root))
    return bulk(topology, root)
