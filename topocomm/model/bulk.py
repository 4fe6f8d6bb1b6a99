"""The transfers of the table's algorithms, made for all ranks at once.

Each function gives exactly what :func:`topocomm.model.transfers.list_transfers` reads from the schedule (rounds may be
numbered otherwise, with the same order on every rank; the rounds of a ring are one entry that repeats). Names that
are not listed here, or carry options, are read from the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from topocomm.algorithms import circulant, pairwise, pipeline, rabenseifner
from topocomm.algorithms.bruck import alltoall_hops
from topocomm.algorithms.forms import regular_extents
from topocomm.algorithms.recursive_doubling import allreduce as doubling
from topocomm.algorithms.rooted import chain_order
from topocomm.algorithms.table import find, make_schedule
from topocomm.compose import Flat
from topocomm.layout import near_first_layout
from topocomm.model.composed import composed_reduce_scatter
from topocomm.model.leveled import leveled_transfers
from topocomm.model.transfers import Transfers, chain, list_transfers
from topocomm.schedule import RankSchedule, Schedule
from topocomm.topology import Topology
from topocomm.topology.topology import IntArray
from topocomm.tree import Tree

__all__ = ["transfers"]

Bulk: TypeAlias = Callable[[Topology, int], Transfers]

LISTED = 1 << 21
"""Up to so many messages are listed one by one where a rank sends to every other; beyond, a sample of the rounds."""
SAMPLE = 16
"""So many rounds, evenly spread, are enough for the time of an exchange between all pairs."""
LISTED_RANKS = 128
"""Up to so many ranks all rounds are used for the time, too."""
SAMPLED = 1 << 17
"""A sample of rounds that overlap has so many messages."""


def make(p: int, vector: int, source: IntArray, target: IntArray, number: IntArray, blocks: IntArray) -> Transfers:
    """Transfers whose two ends have the same round numbers."""
    t, label, carried = (np.asarray(a, np.int64) for a in (target, number, blocks))
    return Transfers(p, vector, np.asarray(source, np.int64), t, label, label, carried, np.ones(len(t), np.int64))


def ring(p: int) -> Transfers:
    """p − 1 rounds of one block to the next rank: one entry a rank."""
    r = np.arange(p if p > 1 else 0, dtype=np.int64)
    zero, turns = np.zeros_like(r), np.full(len(r), p - 1, np.int64)
    return Transfers(p, p, r, (r + 1) % p, zero, zero, turns, turns)


def all_pairs(p: int) -> Transfers:
    """In round s every rank sends one block s ranks on, 0 < s < p; of very many rounds a sample that stands for all."""

    def rounds(steps: IntArray, weight: IntArray, sample: Transfers | None, exact: bool) -> Transfers:
        source = np.tile(np.arange(p, dtype=np.int64), len(steps))
        step, times = np.repeat(steps, p), np.repeat(weight, p)
        return Transfers(p, p, source, (source + step) % p, step, step, times, times, sample, exact)

    steps = np.arange(1, p, dtype=np.int64)
    ones = np.ones_like(steps)
    if p <= LISTED_RANKS:
        return rounds(steps, ones, None, True)
    cuts = np.linspace(1, p, SAMPLE + 1).astype(np.int64)
    sample = rounds((cuts[:-1] + cuts[1:]) // 2, np.diff(cuts), None, False)
    return rounds(steps, ones, sample, True) if p * (p - 1) <= LISTED else sample


def scattered(p: int, most: int) -> Transfers:
    """The same with ``WINDOW`` rounds as one; of more than ``most`` messages a sample of the rounds for time."""
    window = pairwise.WINDOW
    rounds = -(-p // window)

    def some(numbers: IntArray, weight: IntArray, sample: Transfers | None, exact: bool) -> Transfers:
        steps = (numbers[:, None] * window + np.arange(window)).ravel()
        times = np.repeat(weight, window)[(steps > 0) & (steps < p)]
        steps = steps[(steps > 0) & (steps < p)]
        source = np.tile(np.arange(p, dtype=np.int64), len(steps))
        number, repeat, step = np.repeat(steps // window, p), np.repeat(times, p), np.repeat(steps, p)
        return Transfers(p, p, source, (source + step) % p, number, number, repeat, repeat, sample, exact)

    every = np.arange(rounds, dtype=np.int64)
    picked = max(1, most // (p * window))
    if picked >= rounds:
        return some(every, np.ones_like(every), None, True)
    cuts = np.linspace(0, rounds, picked + 1).astype(np.int64)
    sample = some((cuts[:-1] + cuts[1:]) // 2, np.diff(cuts), None, False)
    return some(every, np.ones_like(every), sample, True) if p * p <= LISTED else sample


def chain_up(p: int) -> Transfers:
    """Segments along a chain to its head: position q hands segment k to q − 1 in the round after it came."""
    q = np.repeat(np.arange(1, p, dtype=np.int64), pipeline.SEGMENTS)
    k = np.tile(np.arange(pipeline.SEGMENTS, dtype=np.int64), max(p - 1, 0))
    ones = np.ones_like(q)
    return Transfers(p, pipeline.SEGMENTS, q, q - 1, k + (q < p - 1), k, ones, ones)


def tree_up(tree: Tree, whole: bool) -> Transfers:
    """Everybody's blocks (or the ``whole`` vector, combined) up the tree, between virtual ranks."""
    layout = tree.layout
    child, parent, number, below = [], [], [], []
    for d in range(tree.outermost, layout.depth):
        for place in range(len(layout.first[d]) - 1):
            inner = layout.children(d, place)
            m = len(inner)
            if m == 1:
                continue
            head = int(layout.places[d + 1][tree.leader(d, place)]) - inner.start
            relative = np.arange(1, m)
            at = inner.start + (head + np.arange(m)) % m
            first = layout.first[d + 1]
            leaders = first[at].copy()
            leaders[0] = tree.leader(d + 1, int(at[0]))
            if d + 1 < len(layout.places) and layout.places[d + 1][tree.root] in at:
                leaders[at == layout.places[d + 1][tree.root]] = tree.root
            ranks = np.concatenate(([0], np.cumsum(first[at + 1] - first[at])))
            low = relative & -relative
            child.append(leaders[relative])
            parent.append(leaders[relative - low])
            number.append((layout.depth - 1 - d) * 64 + np.log2(low).astype(np.int64))
            below.append(ranks[np.minimum(relative + low, m)] - ranks[relative])
    join = [np.concatenate(x) if x else np.zeros(0, np.int64) for x in (child, parent, number, below)]
    size = layout.size
    blocks = np.ones_like(join[3]) if whole else join[3]
    return make(size, 1 if whole else size, join[0], join[1], join[2], blocks)


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


_near_first = _composed(rabenseifner.reduce_scatter)
_near_first_back = _composed(rabenseifner.reduce_scatter, back=True, there=False)
_reduce_scatter: Mapping[str, Bulk] = {
    "recursive_halving": _near_first,
    "circulant": _composed(circulant.reduce_scatter),
    "pairwise": _composed(pairwise.reduce_scatter),
    "ring": _ring(True, False, True),
    "binomial": _binomial_reduce_scatter,
    "textbook_pairwise": _pairs(False),
}
BULK: Mapping[str, Mapping[str, Bulk]] = MappingProxyType(
    {
        "allgather": {
            "recursive_doubling": _near_first_back,
            "bruck": _composed(circulant.reduce_scatter, back=True, there=False),
            "ring": _ring(False, True, True),
            "textbook_bruck": _textbook_bruck,
            "textbook_ring": _ring(False, True, False),
        },
        "allreduce": {
            "recursive_doubling": _among_leaders(doubling, False),
            "rabenseifner": _composed(rabenseifner.reduce_scatter, back=True),
            "ring": _ring(True, True, True),
            "textbook_ring": _ring(True, True, False),
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
        return leveled_transfers(collective, options.levels, topology, root)
    bulk = BULK.get(collective, {}).get(text)
    if bulk is None or not 0 <= root < topology.size:
        return list_transfers(make_schedule(collective, text, topology, root))
    return bulk(topology, root)
