"""Multi-lane collectives: among the ranks of a node, and at the same time on as many lanes between the nodes.

Rank i of every node stands on lane i. The allreduce is a reduce-scatter inside each node, an allreduce on every lane
with its part of the vector, and an allgather inside each node; reduce-scatter and allgather are its halves. The
broadcast scatters the vector inside the root's node, broadcasts one part on every lane, and gathers inside each node.

    2 nodes of 2, bcast from rank 0     start   scatter   lanes    gather
    rank 0, 1                           01 ..   0. .1     0. .1    01 01
    rank 2, 3                           .. ..   .. ..     0. .1    01 01

A node is a place of the innermost level whose places all have the same number of ranks, and more than one. As
published, where there is no such level every rank counts as a node: one lane. The parts run near-first halving, or
its circulant form, which are at least as good as what the paper found in MPI libraries; the broadcasts on the lanes
run binomial trees. So on equal nodes and no further level this is our composed algorithm.

    Requires     reductions: a commutative operation
    Rounds       allreduce 2 (⌈lg m⌉ + ⌈lg N⌉) for N nodes of m ranks, its halves half of it; bcast ⌈lg N⌉ + 2 ⌈lg m⌉
    Bytes sent   n (p - 1) / p per rank, allreduce twice that; bcast at most (n / m) lg N on a lane, and 2 n (m - 1) / m
    Cost         2 ⌈lg p⌉ α + n (p - 1) / p (2 β + γ) for the allreduce
    Memory       the largest message received
    Locality     between N nodes (N - 1) n bytes, allreduce twice that, m messages at a time from each node; levels
                 further out are not looked at
    Source       J. L. Träff, S. Hunold: Decomposing MPI collectives for exploiting multi-lane communication,
                 IEEE CLUSTER 2020
"""

from __future__ import annotations

import numpy as np

from topocomm.algorithms import binomial, forms, rabenseifner
from topocomm.algorithms.forms import NONE, Options, one
from topocomm.schedule import RankSchedule, Round, Schedule, relabel, reverse_rounds
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["allgather", "allreduce", "bcast", "lanes", "nodes", "reduce_scatter"]


def nodes(topology: Topology) -> int:
    """How many ranks each node has; 1 if nodes of equal size are nowhere."""
    for level in reversed(topology.levels):
        members = topology.counts(level)
        if len(members) > 1 and members[0] > 1 and (members == members[0]).all():
            return int(members[0])
    return 1


def lanes(topology: Topology) -> Topology:
    """The same ranks in the same topology order, with no level but the nodes."""
    p, m = topology.size, nodes(topology)
    seen = Topology(topology.levels, topology.labels)
    inside = [np.arange(p) // m] if 1 < m < p else []
    seen.nesting = [np.zeros(p, np.int64), *inside, *([np.arange(p)] if p > 1 else [])]
    return seen


def allgather(topology: Topology, root: int, options: Options) -> Schedule:
    """On the lanes, then inside the nodes."""
    return forms.composed_allgather(rabenseifner.reduce_scatter)(lanes(topology), root, options)


def reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """Inside the nodes, then on the lanes."""
    return forms.composed_reduce_scatter(rabenseifner.reduce_scatter)(lanes(topology), root, options)


def allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Inside the nodes, on the lanes, inside the nodes."""
    return forms.composed_allreduce(rabenseifner.reduce_scatter)(lanes(topology), root, options)


def _binomial(size: int, root: int) -> Tree:
    return Tree(near_first_layout(Topology.flat(size)), root)


def bcast(topology: Topology, root: int, options: Options) -> Schedule:
    """Inside the root's node, on the lanes, inside the nodes; slot i is the part of lane i."""
    p, m = topology.size, nodes(topology)
    home, lane = divmod(int(topology.virtual[root]), m)
    inside, between = _binomial(m, lane), _binomial(p // m, home)

    def part(r: int) -> RankSchedule:
        node, i = divmod(int(topology.virtual[r]), m)
        members = topology.order[node * m : (node + 1) * m]
        up: list[Round] = [*reverse_rounds(rabenseifner.reduce_scatter(m, i))]
        out = relabel(reverse_rounds(binomial.gather(inside, i)), members, None) if node == home else ()
        across = relabel(reverse_rounds(binomial.reduce(between, node, one(i))), topology.order[i::m], None)
        return RankSchedule(range(m) if r == root else NONE, (*out, *across, *relabel(up, members, None)), range(m))

    return Schedule(p, m, part, root)
