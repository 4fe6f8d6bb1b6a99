"""The transfers that algorithms are put together from, for all ranks at once: rings, pairs, chains and trees."""

from __future__ import annotations

import numpy as np

from topocomm.algorithms import pairwise, pipeline
from topocomm.algorithms.two_trees import Forest
from topocomm.arrays import IntArray
from topocomm.schedule.transfers import Transfers
from topocomm.schedule.tree import Tree

__all__ = ["LISTED", "SAMPLE", "SAMPLED", "all_pairs", "chain_up", "make", "ring", "scattered", "tree_up", "trees_up"]

LISTED = 1 << 21
"""Up to so many messages are listed one by one where a rank sends to every other; beyond, a sample of the rounds is
enough for the time."""
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


def _digits(m: int, radix: int) -> tuple[IntArray, IntArray, IntArray]:
    """The numbers 1 to m - 1; of each the weight and the position of the lowest digit that is not 0."""
    numbers = np.arange(1, m)
    weight, position = np.ones_like(numbers), np.zeros_like(numbers)
    w = radix
    while w < m:
        higher = numbers % w == 0
        weight[higher] = w
        position += higher
        w *= radix
    return numbers, weight, position


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
            relative, weight, label = _digits(m, tree.radix(d))
            at = inner.start + (head + np.arange(m)) % m
            first = layout.first[d + 1]
            leaders = first[at].copy()
            leaders[0] = tree.leader(d + 1, int(at[0]))
            if d + 1 < len(layout.places) and layout.places[d + 1][tree.root] in at:
                leaders[at == layout.places[d + 1][tree.root]] = tree.root
            ranks = np.concatenate(([0], np.cumsum(first[at + 1] - first[at])))
            child.append(leaders[relative])
            parent.append(leaders[relative - relative % (weight * tree.radix(d))])
            number.append((layout.depth - 1 - d) * 64 + label)
            below.append(ranks[np.minimum(relative + weight, m)] - ranks[relative])
    join = [np.concatenate(x) if x else np.zeros(0, np.int64) for x in (child, parent, number, below)]
    size = layout.size
    blocks = np.ones_like(join[3]) if whole else join[3]
    return make(size, 1 if whole else size, join[0], join[1], join[2], blocks)


def trees_up(trees: Forest, root: int, segments: int) -> Transfers:
    """Segments up several trees at once, in the rounds and turns of :func:`topocomm.algorithms.two_trees.along`."""
    k, size = trees.parent.shape
    tree, r = (a.ravel() for a in np.indices((k, size)))
    turn = (tree + trees.lane[r]) % k
    order = np.lexsort((r, tree, turn))
    tree, r = tree[order], r[order]
    tree, r = tree[r != root], r[r != root]
    segment = np.repeat(np.arange(segments, dtype=np.int64), len(r))
    label = segment + np.tile(trees.deepest - trees.depth[tree, r], segments)
    source, target = np.tile(r, segments), np.tile(trees.parent[tree, r], segments)
    return make(size, k * segments, source, target, label, np.ones_like(label))
