"""Reduce of large vectors along two binary trees at once, in segments; reversed, the broadcast.

Each tree carries half of the vector. A rank has children in at most one of them, so that every rank sends and receives
the vector about once, as along a chain, but the way to the root is only ⌈lg p⌉ long. The trees are in-order trees over
the ranks in topology order from the root's own places on: a subtree is a run of neighbours, so few edges leave a place.

    7 ranks below the root     tree 0        3              tree 1 (shifted by one)    2
    segments in halves                   1       5                                 0       4
                                       0   2   4   6                             6   1   3   5

In round t a rank of depth d handles segment t - (depth - d) of a tree: all ranks of a tree work on different segments.

    Requires     reduce: a commutative operation
    Rounds       at most S + ⌈lg p⌉ + 1, S = number of segments of each half
    Bytes sent   n per rank (broadcast: n, the last two ranks of a tree less); n = bytes of the vector
    Cost         (S + ⌈lg p⌉) (α + n / S β)
    Memory       reduce: two segments
    Locality     a place of g ranks has at most lg g edges of each tree across each of its two borders
    Source       P. Sanders, J. Speck, J. L. Träff: Two-tree algorithms for full bandwidth broadcast, reduction and
                 scan, Parallel Computing 35 (2009); the rounds are kept in step instead of coloured edges
"""

from __future__ import annotations

from typing import NamedTuple

from topocomm import reorder
from topocomm.algorithms.forms import Options
from topocomm.algorithms.rooted import chain_order
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send, relabel
from topocomm.topology import Topology, in_label_order

__all__ = ["SEGMENTS", "reduce", "reduce_rounds"]

SEGMENTS = 32


class Node(NamedTuple):
    """A node of an in-order tree over 0 … h - 1: its depth (1: below the root), parent (-1: the root) and children."""

    depth: int
    parent: int
    children: tuple[int, ...]


def node(h: int, x: int) -> Node:
    """Node x of the in-order binary tree over h nodes; its middle nodes have the children, even ones are leaves."""
    low, high, parent, depth = 0, h, -1, 1
    while True:
        middle = _middle(low, high)
        if x == middle:
            sides = ((low, middle), (middle + 1, high))
            return Node(depth, parent, tuple(_middle(a, b) for a, b in sides if a < b))
        low, high = (low, middle) if x < middle else (middle + 1, high)
        parent, depth = middle, depth + 1


def _middle(low: int, high: int) -> int:
    """The root of the tree over low … high - 1: an odd distance from ``low`` (itself where there is but one)."""
    half = (high - low) // 2
    return low + (half if half % 2 else half - 1 if half else 0)


def reduce_rounds(p: int, r: int, segments: int) -> tuple[Round, ...]:
    """The rounds of position r (0: the root); slot 2 k + i is segment k of the half that tree i carries."""
    h = p - 1
    if h == 0:
        return ()
    deepest = (p - 1).bit_length() + 1
    rounds: list[tuple[list[Send], list[Recv]]] = [([], []) for _ in range(segments + deepest)]

    def position(x: int, tree: int) -> int:
        return (x - tree) % h + 1

    for tree in (0, 1):
        mine = Node(0, -1, (_middle(0, h),)) if r == 0 else node(h, (r - 1 + tree) % h)
        for k in range(segments):
            slot = range(2 * k + tree, 2 * k + tree + 1)
            if r:
                parent = position(mine.parent, tree) if mine.parent >= 0 else 0
                rounds[k + deepest - mine.depth][0].append(Send(parent, slot))
            for child in mine.children:
                rounds[k + deepest - mine.depth - 1][1].append(Recv(position(child, tree), slot, Combine.AFTER))
    return tuple(Round(tuple(sends), tuple(recvs)) for sends, recvs in rounds if sends or recvs)


def reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Up both trees to the root, ``options.segments`` segments a half."""
    p, chain = topology.size, chain_order(in_label_order(topology), root)
    segments = options.segments or SEGMENTS
    position, everything = reorder.inverse(chain), range(2 * segments)

    def part(r: int) -> RankSchedule:
        body = relabel(reduce_rounds(p, int(position[r]), segments), chain, None)
        return RankSchedule(everything, body, everything if r == root else range(0))

    return Schedule(p, 2 * segments, part, root)



def rounds(p: int) -> int:
    """The largest number of rounds of a rank on p equals: its segments as a leaf of one tree and inside the other."""
    return 0 if p == 1 else SEGMENTS + (p - 1).bit_length() - 1
