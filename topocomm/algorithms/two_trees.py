"""Reduce of large vectors along two binary trees at once, in segments; reversed, the broadcast.

Each tree carries half of the vector. A rank has children in at most one of them, so that every rank sends and receives
the vector about once, as along a chain, but the way to the root is short. Both are in-order trees: even numbers are
leaves, odd ones have children; the second tree counts from one further on.

    7 ranks below the root     tree 0        3              tree 1                     2
    segments in halves                   1       5                                 0       4
                                       0   2   4   6                             6   1   3   5

Over places the trees are nested: two trees over the innermost places in topology order, and two inside each place
under its head. What a place passes on leaves from those of its ranks that have sends to spare; there are always
enough. So each half enters a place once and leaves it at most twice. The heads of places take turns among their
ranks' positions, so that messages between places are spread over parallel links.

In round t a rank of depth d handles segment t - (deepest - d) of a tree: ranks above each other work on different
segments.

    Requires     reduce: a commutative operation
    Rounds       S + depth of the trees on a rank; S = number of segments of each half, depth about 2 lg p over places
    Bytes sent   at most n per rank; n = bytes of the vector
    Cost         (S + 2 lg p) (α + n / S β)
    Memory       reduce: two segments
    Locality     a place of the innermost level receives n bytes and sends at most n
    Source       P. Sanders, J. Speck, J. L. Träff: Two-tree algorithms for full bandwidth broadcast, reduction and
                 scan, Parallel Computing 35 (2009); rounds in step instead of coloured edges, and the nesting, are ours
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from topocomm.algorithms.forms import Options
from topocomm.algorithms.rooted import chain_order
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send
from topocomm.topology import Topology, in_label_order

__all__ = ["SEGMENTS", "Forest", "along", "forest", "in_order_parents", "reduce", "rounds"]

SEGMENTS = 32
TREES = (0, 1)


@lru_cache(maxsize=64)
def in_order_parents(h: int) -> tuple[tuple[int, ...], ...]:
    """The parent of each of h nodes in either tree; -1: the root above them."""
    parent = [-1] * h
    todo = [(0, h, -1)]
    while todo:
        low, high, above = todo.pop()
        if low == high:
            continue
        half = (high - low) // 2
        middle = low + (half if half % 2 else max(half - 1, 0))  # an odd number, but for a node alone
        parent[middle] = above
        todo += [(low, middle, middle), (middle + 1, high, middle)]
    second = [parent[(x + 1) % h] for x in range(h)]
    return tuple(parent), tuple((x - 1) % h if x >= 0 else -1 for x in second)


class Forest(NamedTuple):
    """Trees over all ranks: ``parent[i][r]`` (-1: r is the root), ``depth[i][r]``; rank r begins a round with tree
    ``-lane[r]``, counted around."""

    parent: IntArray
    depth: IntArray
    lane: IntArray

    @property
    def deepest(self) -> int:
        """The largest depth of both."""
        return int(self.depth.max())


def _places(topology: Topology, root: int) -> list[IntArray]:
    """The ranks of every innermost place, the head first, the root's own place at the front; all alone if there are no
    places to part."""
    chain = chain_order(topology, root)
    inner = topology.nesting[-2] if len(topology.nesting) > 2 else np.arange(topology.size)
    column = inner[topology.virtual[chain]]
    cuts = np.flatnonzero(np.diff(column)) + 1
    parts = np.split(chain, cuts)
    turned = [np.roll(part, -(i % len(part))) for i, part in enumerate(parts)]
    return [np.roll(parts[0], -int(np.flatnonzero(parts[0] == root)[0])), *turned[1:]]


def forest(topology: Topology, root: int) -> Forest:
    """The two trees of a topology, rooted at ``root``."""
    places, p = _places(topology, root), topology.size
    parent, depth = np.full((2, p), -1), np.zeros((2, p), np.int64)
    load = np.zeros(p, np.int64)
    for members in places:
        for tree, above in enumerate(in_order_parents(len(members) - 1)):
            parent[tree, members[1:]] = [members[x + 1] for x in above]
    for tree in TREES:
        inside = parent[tree][parent[tree] >= 0]
        load += np.bincount(inside, minlength=p)
    between = in_order_parents(len(places) - 1)
    for tree in TREES:
        done = [False] * len(places)
        done[0] = True
        _deepen(parent[tree], depth[tree], places[0])
        for start in range(1, len(places)):
            line, number = [], start
            while not done[number]:
                line.append(number)
                number = between[tree][number - 1] + 1
            for below in reversed(line):
                outer = places[between[tree][below - 1] + 1]
                giver = min(outer.tolist(), key=lambda r: (load[r], depth[tree, r]))
                load[giver] += 1
                parent[tree, places[below][0]] = giver
                _deepen(parent[tree], depth[tree], places[below])
                done[below] = True
    return Forest(parent, depth, np.zeros(p, np.int64))


def _deepen(parent: IntArray, depth: IntArray, members: IntArray) -> None:
    """Fill in the depths of a place whose head has its parent."""
    for start in members.tolist():
        line, r = [], start
        while r >= 0 and depth[r] == 0 and parent[r] >= 0:
            line.append(r)
            r = int(parent[r])
        for below in reversed(line):
            depth[below] = depth[parent[below]] + 1


def reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Up both trees to the root, ``options.segments`` segments a half."""
    return along(forest(in_label_order(topology), root), root, options.segments or SEGMENTS)


def along(trees: Forest, root: int, segments: int) -> Schedule:
    """Up k trees to the root, ``segments`` segments a tree; slot s k + i is segment s of tree i."""
    k, size = trees.parent.shape
    everything, deepest = range(k * segments), trees.deepest
    turns = (np.arange(k)[:, None] + trees.lane) % k
    wait = (deepest - trees.depth).tolist()
    upwards: list[list[tuple[int, int, int]]] = [[] for _ in range(size)]  # tree, peer, round of the first segment
    downwards: list[list[tuple[int, int, int]]] = [[] for _ in range(size)]
    for tree, r in sorted(np.ndindex(k, size), key=lambda pair: int(turns[pair])):
        if r != root:
            above = int(trees.parent[tree, r])
            upwards[r].append((tree, above, wait[tree][r]))
            downwards[above].append((tree, r, wait[tree][r]))

    def part(r: int) -> RankSchedule:
        sends: list[list[Send]] = [[] for _ in range(segments + deepest)]
        recvs: list[list[Recv]] = [[] for _ in range(segments + deepest)]
        for s in range(segments):
            slots = [range(s * k + tree, s * k + tree + 1) for tree in range(k)]
            for tree, above, first in upwards[r]:
                sends[s + first].append(Send(above, slots[tree]))
            for tree, child, first in downwards[r]:
                recvs[s + first].append(Recv(child, slots[tree], Combine.AFTER))
        body = tuple(Round(tuple(x), tuple(y)) for x, y in zip(sends, recvs, strict=True) if x or y)
        return RankSchedule(everything, body, everything if r == root else range(0))

    return Schedule(size, k * segments, part, root)


def rounds(p: int) -> int:
    """The largest number of rounds of a rank on p equals: its segments as a leaf of one tree and inside the other."""
    return 0 if p == 1 else SEGMENTS + (p - 1).bit_length() - 1
