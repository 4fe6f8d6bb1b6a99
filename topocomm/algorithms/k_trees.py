"""Reduce of medium and large vectors along k short trees at once, in segments; reversed, the broadcast.

Each tree carries the k-th part of the vector. A rank below the root has children in one of the trees, its *lane*, at
most k of them: everybody sends and receives the vector about once, and the way to the root is about log_k p long.

    10 ranks, root 0, k = 2      rank  1 2 3 4 5 6 7 8 9
                                 lane  1 1 0 1 0 0 1 1 0      digits of the rank in base 2, added up

Lanes alternate in topology order, so that every place has some of each. The way of a lane leads to one of its ranks in
each outer place first, then to one in each place inside; the nearest rank of the lane that has children to spare hands
the segments on. Which place comes first differs from lane to lane, so that messages are spread over parallel links.
Then the other ranks are served, each by a rank of the lane in its own innermost place or near by. Where a lane has a
rank too few (p - 1 is no multiple of k), ranks of other lanes lend it a child each.

In round t a rank of depth d handles segment t - (deepest - d) of a tree, as in two_trees. Within a round a rank of lane
j has its turn in tree i at (i + j) mod k: so everybody has about one message to send and one to receive at a time.

    Requires     reduce: a commutative operation
    Rounds       S + D - 1 on a rank; S = number of segments of each tree, D = its depth, about 2 + log_k (p / k)
    Bytes sent   at most n per rank; n = bytes of the vector
    Cost         (S + D - 1) (α + n / S β), if k overheads pass within n / S β
    Memory       reduce: k segments
    Locality     a place with ranks of all lanes receives n bytes, and what its ranks with children elsewhere leave over
    Source       rounds and trees after two_trees; trees with different inner ranks: M. Castro et al.: SplitStream,
                 SOSP 2003; lanes over places are ours
"""

from __future__ import annotations

from functools import lru_cache
from math import log2, sqrt

import numpy as np

from topocomm.algorithms.counting import whole_vector
from topocomm.algorithms.entry import Algorithm, Case, Form
from topocomm.algorithms.forms import backwards, chain_order
from topocomm.algorithms.options import Options
from topocomm.algorithms.two_trees import Forest, along, along_bulk
from topocomm.arrays import IntArray
from topocomm.schedule import Schedule
from topocomm.schedule.reorder import inverse
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology, in_label_order

__all__ = ["ENTRIES", "TREES", "UP_TO", "forest"]

SEGMENTS = 4
"""Segments of each tree if none are asked for."""
TREES = 8
"""Trees if no radix is asked for."""
UP_TO = 1 << 24
"""Bytes beyond which two_trees was faster in SimGrid (64 MiB: by a tenth), although the model says otherwise."""
_MOST_TRIED = 512
"""Ranks beyond which it is no candidate: slow to price."""
_MOST_SEGMENTS = 5
"""log2 of the most segments tried: each has as many messages as there are trees."""


class _Tree:
    """A tree that takes one rank after the other: ``parent`` and ``depth`` (0: not yet inside) of every rank, and the
    number of children that each of the ``givers`` may still have."""

    def __init__(self, nesting: IntArray, givers: IntArray, spare: IntArray) -> None:
        size = nesting.shape[1]
        self.nesting, self.givers, self.spare = nesting, givers, spare
        self.parent, self.depth = np.full(size, -1), np.zeros(size, np.int64)

    def add(self, rank: int, deepest: int, within: int = 0) -> None:
        """Put a rank below the nearest one with a child to spare, of a depth below ``deepest`` if there is one; leave
        it if there is none in its place of depth ``within``."""
        if not self.depth.any():
            self.parent[rank], self.depth[rank] = 0, 1
            return
        depth, near = self.depth[self.givers], self.nesting[:, self.givers] == self.nesting[:, rank, None]
        able = np.flatnonzero((depth > 0) & (self.spare > 0) & near[within])
        if len(able):
            depth, turn = depth[able], (7 * self.givers[able] + 3 * rank) % 11  # no order: neighbours spread
            keys = (turn, -self.spare[able], np.minimum(depth, deepest), -near[:, able].sum(axis=0), depth >= deepest)
            best = able[np.lexsort(keys)[0]]
            self.spare[best] -= 1
            self.parent[rank] = self.givers[best]
            self.depth[rank] = self.depth[self.givers[best]] + 1


def _lanes(size: int, k: int) -> IntArray:
    """Find the lane of every rank; -1: the root."""
    left, total = np.arange(size), np.zeros(size, np.int64)
    while left.any():
        total, left = total + left % k, left // max(k, 2)
    lane = total % k
    if size % k:
        lane[-1] = 0  # which misses one where the root is
    lane[0] = -1
    return lane


def _children(lane: IntArray, k: int) -> IntArray:
    """Count the children that every rank may have in each tree: k in its lane, but ranks of lanes that could serve more
    than all ranks lend some to lanes that could not serve all."""
    spare = np.where(lane == np.arange(k)[:, None], k, 0)
    missing = len(lane) - 2 - spare.sum(axis=1)
    for tree in np.flatnonzero(missing > 0).tolist():
        for turn in range(int(missing[tree])):
            other = int(missing.argmin())
            able = np.flatnonzero((lane == other) & (spare[other] > 0))
            lender = able[turn * k % len(able)]
            spare[other, lender] -= 1
            spare[tree, lender] += 1
            missing[other] += 1
    return spare


def _order(nesting: IntArray, ranks: IntArray, tree: int) -> IntArray:
    """Put the ranks of a lane in the order in which they are reached: one of each outer place before those inside it.

    In each place the tree's number says which of the places inside comes first (three times the number, so that lanes
    next to each other enter far apart and by different links); but the root's outermost place comes first.
    """
    keys = []
    for d in range(1, len(nesting)):
        outer, inner = nesting[d - 1], nesting[d]
        first = np.full(int(outer.max()) + 1, len(outer))
        np.minimum.at(first, outer, inner)
        count = np.bincount(np.unique(np.stack((outer, inner)), axis=1)[0])
        position = inner - first[outer]
        start = position[0] if d == 1 and len(nesting) > 2 else 3 * tree
        keys.append(((position - start) % count[outer])[ranks])
    if not len(ranks):
        return ranks
    ordered = ranks[np.lexsort(keys[::-1])]
    new = (nesting[:, ordered[1:]] != nesting[:, ordered[:-1]]).argmax(axis=0)
    return ordered[np.argsort(np.append(0, new), kind="stable")]


def forest(topology: Topology, root: int, most: int = TREES) -> Forest:
    """Make the trees of a topology, rooted at ``root``: ``most`` of them, fewer if there are fewer other ranks."""
    topology, k = in_label_order(topology), max(1, min(most, topology.size - 1))
    chain = chain_order(topology, root)  # ranks are counted along it, the root is 0
    nesting = np.stack([places[topology.virtual[chain]] for places in topology.nesting])
    lane = _lanes(len(chain), k)
    trees = []
    for i, spare in enumerate(_children(lane, k)):
        givers = np.flatnonzero(spare)
        tree = _Tree(nesting, givers, spare[givers])
        trees.append(tree)
        members, lenders = _order(nesting, np.flatnonzero(lane == i), i), givers[lane[givers] != i]
        deepest = _levels(len(members), k)
        for rank in [*members.tolist(), *lenders.tolist()]:
            tree.add(rank, deepest)
        for within in reversed(range(len(nesting) - 1)):
            for rank in (1 + np.flatnonzero(tree.depth[1:] == 0)).tolist():
                tree.add(rank, deepest + 1, within)
    place = inverse(chain)
    parent = np.stack([np.append(chain, -1)[tree.parent] for tree in trees])
    return Forest(parent[:, place], np.stack([tree.depth for tree in trees])[:, place], lane[place])


def _levels(members: int, k: int) -> int:
    """Count the levels of a tree of ``members`` ranks with k children each."""
    levels, room = 1, 1
    while room < members:
        levels, room = levels + 1, room * k + 1
    return levels


def _reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Go up all trees to the root, ``options.segments`` segments a tree; ``options.radix``: the number of trees."""
    return along(forest(topology, root, *options.radix), root, options.segments or SEGMENTS)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return along_bulk(forest(topology, root, *options.radix), root, options.segments or SEGMENTS)


@lru_cache
def _rounds(p: int) -> int:
    """Return the most rounds of a rank on p equals: S, and what lies between its depths in different trees."""
    if p == 1:
        return 0
    trees = forest(Topology.flat(p), 0)
    last = trees.depth.copy()
    for tree, above in enumerate(trees.parent[:, 1:]):
        last[tree, np.unique(above)] += 1  # these hand on what came in the round before
    return SEGMENTS + int((last.max(axis=0) - trees.depth.min(axis=0))[1:].max())


def _trials(case: Case) -> list[str]:
    """Try the segments that go down the trees soonest, as a power of two.

    (S + D - 1) (α + n / S β) is least at S² = (D - 1) n β / α; but the overheads of a round's k messages must pass
    within n / S β.
    """
    p = case.topology.size
    if p > _MOST_TRIED or case.nbytes > UP_TO:
        return []
    whole = case.nbytes / case.speed
    levels = 1 + log2(max(p, 2)) / log2(TREES)
    best = min(sqrt(levels * whole / (case.receiving + case.latency)), whole / (TREES * case.receiving))
    return [f"segments={int(2 ** min(max(round(log2(max(best, 1.0))), 0), _MOST_SEGMENTS))}"]


_REDUCE = Form(_reduce, _bulk)

ENTRIES = (
    Algorithm("k_trees", "bcast", "medium and large vectors: k-th parts in segments down k short trees",
              backwards(_REDUCE), _rounds, whole_vector, radix=True, segments=True, trials=_trials),
    Algorithm("k_trees", "reduce", "medium and large vectors: k-th parts in segments up k short trees",
              _REDUCE, _rounds, whole_vector, radix=True, segments=True, trials=_trials),
)  # fmt: skip
