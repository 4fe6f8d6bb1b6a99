"""Which rank sits at which vertex of a graph, so that little weight runs between places. No MPI.

Places get their vertices from the outermost level in: each grows from a vertex at the rim by the one that hangs at it
most (greedy graph growing: G. Karypis, V. Kumar, "A fast and high quality multilevel scheme for partitioning irregular
graphs", SIAM J. Sci. Comput. 20, 1998). Then pairs are swapped while that helps (B. W. Kernighan, S. Lin, "An efficient
heuristic procedure for partitioning graphs", Bell System Technical Journal 49, 1970). An edge costs its weight at every
level down to the node that it crosses.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from topocomm.arrays import IntArray
from topocomm.topology.topology import Topology

__all__ = ["Graph", "graph_order", "weight_parted"]

_MOST_TRIALS = 20_000
"""Pairs of vertices that are tried for a swap, in all."""


@dataclass(frozen=True)
class Graph:
    """Edges between vertices 0 to ``size`` - 1: arrays of equal length. Directions do not count; weights are at
    least 0.
    """

    size: int
    heads: IntArray
    tails: IntArray
    weights: IntArray

    @cached_property
    def near(self) -> list[dict[int, int]]:
        """The neighbours of every vertex with the weight to each, both directions together."""
        found: list[dict[int, int]] = [{} for _ in range(self.size)]
        for a, b, weight in zip(self.heads.tolist(), self.tails.tolist(), self.weights.tolist(), strict=True):
            if a != b:
                found[a][b] = found[a].get(b, 0) + weight
                found[b][a] = found[b].get(a, 0) + weight
        return found


def weight_parted(topology: Topology, order: IntArray, graph: Graph) -> list[int]:
    """Sum the weights of the edges that run between places, for each level; ``order`` has the rank at each vertex."""
    places = topology.places[order]
    differ = places[graph.heads] != places[graph.tails]
    return [int(total) for total in (differ * graph.weights[:, None]).sum(axis=0)]


def graph_order(topology: Topology, graph: Graph) -> IntArray:
    """Find the rank at each vertex of a graph of as many vertices as there are ranks.

    Where nothing found is better, the ranks' own order is kept.
    """
    ranks = np.arange(topology.size, dtype=np.int64)
    outer = topology.upto("node") if "node" in topology.levels else topology
    if not topology.has_distance or not len(graph.heads):
        return ranks
    grown = np.empty(topology.size, np.int64)
    grown[_grown(graph, [outer.places[topology.order, level] for level in range(len(outer.levels))])] = topology.order
    tried = [ranks, *(_swapped(outer, order, graph) for order in (ranks, grown))]
    return min(tried, key=lambda order: sum(weight_parted(outer, order, graph)))


def _grown(graph: Graph, columns: Sequence[IntArray]) -> IntArray:
    """The vertices in the order of the ranks, which stand in topology order; ``columns`` are their places by level."""
    out = np.empty(graph.size, np.int64)
    work = [(list(range(graph.size)), 0, 0)]
    while work:
        vertices, first, depth = work.pop()
        if depth == len(columns) or len(vertices) == 1:
            out[first : first + len(vertices)] = vertices
            continue
        column = columns[depth][first : first + len(vertices)]
        sizes = np.diff(np.flatnonzero(np.diff(column, prepend=-1, append=-1)))
        rest = dict.fromkeys(vertices)
        for size in sizes.tolist():
            work.append((_region(graph, rest, size), first, depth + 1))
            first += size
    return out


def _region(graph: Graph, rest: dict[int, None], size: int) -> list[int]:
    """Take ``size`` vertices that hang together out of ``rest``."""
    region: list[int] = []
    gained = dict.fromkeys(rest, 0)
    inside = {v: sum(w for u, w in graph.near[v].items() if u in rest) for v in rest}
    heap: list[tuple[int, int]] = []
    while len(region) < size:
        while heap and (heap[0][1] not in rest or heap[0][0] != inside[heap[0][1]] - 2 * gained[heap[0][1]]):
            heapq.heappop(heap)
        vertex = heap[0][1] if heap else min(rest, key=lambda v: (inside[v], v))
        del rest[vertex]
        region.append(vertex)
        for other, weight in graph.near[vertex].items():
            if other in rest:
                gained[other] += weight
                heapq.heappush(heap, (inside[other] - 2 * gained[other], other))
    return region


def _swapped(topology: Topology, order: IntArray, graph: Graph) -> IntArray:
    """Swap the ranks of two vertices while that parts less weight, for at most :data:`_MOST_TRIALS` trials."""
    order = order.copy()
    row = [tuple(places) for places in topology.places[order].tolist()]
    members: dict[tuple[int, ...], set[int]] = {}
    for vertex, place in enumerate(row):
        members.setdefault(place, set()).add(vertex)

    def cost(vertex: int, place: tuple[int, ...], but: int) -> int:
        return sum(
            weight * sum(map(int.__ne__, place, row[other]))
            for other, weight in graph.near[vertex].items()
            if other != but
        )

    trials, better = 0, True
    while better and trials < _MOST_TRIALS:
        better = False
        for a in range(graph.size):
            for place in sorted({row[b] for b in graph.near[a]} - {row[a]}):
                best = (0, -1)
                for b in sorted(members[place]):
                    trials += 1
                    now = cost(a, row[a], b) + cost(b, row[b], a)
                    best = min(best, (cost(a, row[b], b) + cost(b, row[a], a) - now, b))
                if best[0] < 0:
                    b = best[1]
                    members[row[a]] ^= {a, b}
                    members[row[b]] ^= {a, b}
                    row[a], row[b] = row[b], row[a]
                    order[[a, b]] = order[[b, a]]
                    better = True
            if trials >= _MOST_TRIALS:
                break
    return order
