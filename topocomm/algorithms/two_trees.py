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
from math import log2, sqrt
from typing import NamedTuple

import numpy as np

from topocomm.algorithms.counting import whole_vector
from topocomm.algorithms.entry import Algorithm, Case, Form
from topocomm.algorithms.forms import at_root, backwards, chain_order, one
from topocomm.algorithms.options import Options
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send
from topocomm.schedule.bulk import in_step
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology, in_label_order

__all__ = ["ENTRIES", "SEGMENTS", "Forest", "along", "along_bulk"]

SEGMENTS = 32
"""Segments of each half if none are asked for."""
TREES = (0, 1)
_MOST_TRIED = 1024
"""Ranks beyond which it is no candidate: slow to price."""
_MOST_SEGMENTS = 7
"""log2 of the most segments tried."""


@lru_cache(maxsize=64)
def _in_order_parents(h: int) -> tuple[tuple[int, ...], ...]:
    """Find the parent of each of h nodes in either tree; -1: the root above them."""
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
        """The largest depth in any tree."""
        return int(self.depth.max())


def _places(topology: Topology, root: int) -> list[IntArray]:
    """Split the ranks into innermost places, the head first, the root's own place at the front; without places inside
    the machine, into places of one rank."""
    chain = chain_order(topology, root)
    inner = topology.nesting[-2] if len(topology.nesting) > 2 else np.arange(topology.size)
    column = inner[topology.virtual[chain]]
    cuts = np.flatnonzero(np.diff(column)) + 1
    parts = np.split(chain, cuts)
    turned = [np.roll(part, -(i % len(part))) for i, part in enumerate(parts)]
    return [np.roll(parts[0], -int(np.flatnonzero(parts[0] == root)[0])), *turned[1:]]


def _forest(topology: Topology, root: int) -> Forest:
    """Make the two trees of a topology, rooted at ``root``."""
    places, p = _places(topology, root), topology.size
    parent, depth = np.full((2, p), -1), np.zeros((2, p), np.int64)
    load = np.zeros(p, np.int64)
    for members in places:
        for tree, above in enumerate(_in_order_parents(len(members) - 1)):
            parent[tree, members[1:]] = [members[x + 1] for x in above]
    for tree in TREES:
        inside = parent[tree][parent[tree] >= 0]
        load += np.bincount(inside, minlength=p)
    between = _in_order_parents(len(places) - 1)
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


def along(trees: Forest, root: int, segments: int) -> Schedule:
    """Make the reduce up k trees to the root, ``segments`` segments a tree; slot s k + i is segment s of tree i."""
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
            slots = [one(s * k + tree) for tree in range(k)]
            for tree, above, first in upwards[r]:
                sends[s + first].append(Send(above, slots[tree]))
            for tree, child, first in downwards[r]:
                recvs[s + first].append(Recv(child, slots[tree], Combine.AFTER))
        body = tuple(Round(tuple(x), tuple(y)) for x, y in zip(sends, recvs, strict=True) if x or y)
        return RankSchedule(everything, body, at_root(everything, r, root))

    return Schedule(size, k * segments, part, root)


def along_bulk(trees: Forest, root: int, segments: int) -> Transfers:
    """List the messages of :func:`along`, in its rounds and turns."""
    k, size = trees.parent.shape
    tree, r = (a.ravel() for a in np.indices((k, size)))
    turn = (tree + trees.lane[r]) % k
    order = np.lexsort((r, tree, turn))
    tree, r = tree[order], r[order]
    tree, r = tree[r != root], r[r != root]
    segment = np.repeat(np.arange(segments, dtype=np.int64), len(r))
    label = segment + np.tile(trees.deepest - trees.depth[tree, r], segments)
    source, target = np.tile(r, segments), np.tile(trees.parent[tree, r], segments)
    return in_step(size, k * segments, source, target, label, np.ones_like(label))


def _reduce(topology: Topology, root: int, options: Options) -> Schedule:
    return along(_forest(in_label_order(topology), root), root, options.segments or SEGMENTS)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return along_bulk(_forest(in_label_order(topology), root), root, options.segments or SEGMENTS)


def _rounds(p: int) -> int:
    """Return the most rounds of a rank on p equals: its segments as a leaf of one tree and inside the other."""
    return 0 if p == 1 else SEGMENTS + (p - 1).bit_length() - 1


def _trials(case: Case) -> list[str]:
    """Try the segments of half a vector that go down two trees soonest, as a power of two.

    With S of them in rounds of a message up and one down, (S + 2 lg p) (α + n / 2 S β) is least at
    S² = lg p · n β / α.
    """
    p = case.topology.size
    if p > _MOST_TRIED:
        return []
    alpha = 2 * case.sending + case.latency
    best = sqrt(max(p - 1, 1).bit_length() * case.nbytes / case.speed / alpha)
    return [f"segments={int(2 ** min(max(round(log2(max(best, 1.0))), 0), _MOST_SEGMENTS))}"]


_REDUCE = Form(_reduce, _bulk)

ENTRIES = (
    Algorithm("two_trees", "bcast", "large vectors: halves in segments down two in-order trees",
              backwards(_REDUCE), _rounds, whole_vector, segments=True, trials=_trials),
    Algorithm("two_trees", "reduce", "large vectors: halves in segments up two in-order trees",
              _REDUCE, _rounds, whole_vector, segments=True, trials=_trials),
)  # fmt: skip
