"""All messages of all ranks at once: the parts of which algorithms list theirs, without making every rank's rounds.

A *bulk list* gives the messages that :func:`topocomm.schedule.transfers.list_transfers` reads from a schedule, in the
same order within a rank's round. Its rounds may be numbered otherwise, as long as the order on every rank is the same.
Thousands of ranks take milliseconds where reading the schedule takes seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from topocomm.arrays import IntArray
from topocomm.schedule.transfers import Transfers
from topocomm.schedule.tree import Tree

__all__ = ["LISTED", "SAMPLE", "Row", "copies", "in_step", "join_rows", "no_transfers", "tree_up", "widened"]

LISTED = 1 << 21
"""Up to this number of messages all are listed where a rank sends to every other; beyond, a sample of the rounds."""
SAMPLE = 16
"""Rounds, evenly spread, that are enough for the time of an exchange between all pairs."""


class Row(NamedTuple):
    """Messages of one round: who sends how many blocks to whom."""

    source: IntArray
    target: IntArray
    round: int
    blocks: IntArray


def in_step(p: int, vector: int, source: IntArray, target: IntArray, number: IntArray, blocks: IntArray) -> Transfers:
    """Make transfers whose two ends have the same round numbers."""
    t, label, carried = (np.asarray(a, np.int64) for a in (target, number, blocks))
    return Transfers(p, vector, np.asarray(source, np.int64), t, label, label, carried, np.ones(len(t), np.int64))


def no_transfers(p: int) -> Transfers:
    """Make the empty list of messages among p ranks."""
    none = np.zeros(0, np.int64)
    return in_step(p, p, none, none, none, none)


def join_rows(p: int, vector: int, rows: list[Row]) -> Transfers:
    """Make transfers from rows, in their order; ``vector``: the number of blocks of a whole vector."""
    nothing = np.zeros(0, np.int64)
    source = np.concatenate([nothing, *(row.source for row in rows)])
    target = np.concatenate([nothing, *(row.target for row in rows)])
    number = np.concatenate([nothing, *(np.full(len(row.source), row.round) for row in rows)])
    return in_step(p, vector, source, target, number, np.concatenate([nothing, *(row.blocks for row in rows)]))


def copies(part: Transfers, ranks: IntArray, size: int, vector: int) -> Transfers:
    """Repeat ``part`` among the ranks of every row of the matrix ``ranks``; ``size``: the number of all ranks."""
    rows = len(ranks)
    number, blocks = np.tile(part.send_round, rows), np.tile(part.blocks, rows)
    return in_step(size, vector, ranks[:, part.source].ravel(), ranks[:, part.target].ravel(), number, blocks)


def widened(part: Transfers, ranks: IntArray, size: int) -> Transfers:
    """Rename rank i of ``part`` to ``ranks[i]``, one of ``size`` ranks in all."""
    moved = part.relabelled(ranks)
    columns = (moved.source, moved.target, moved.send_round, moved.recv_round, moved.blocks, moved.repeat)
    return Transfers(size, part.vector, *columns)


def _digits(m: int, radix: int) -> tuple[IntArray, IntArray, IntArray]:
    """Give the numbers 1 to m - 1, and of each the weight and the position of the lowest digit that is not 0."""
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
    """List every rank's blocks (``whole``: the vector, combined) on their way up a tree, between virtual ranks."""
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
    return in_step(size, 1 if whole else size, join[0], join[1], join[2], blocks)
