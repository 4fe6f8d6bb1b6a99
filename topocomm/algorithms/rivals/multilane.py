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

from fractions import Fraction

import numpy as np

from topocomm.algorithms.binomial import gather_rounds, reduce_rounds
from topocomm.algorithms.counting import lg, share, twice
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import at_root, backwards, composed, one, there_and_back
from topocomm.algorithms.options import Options
from topocomm.algorithms.recursive_halving import NEAR_FIRST, near_first
from topocomm.schedule import RankSchedule, Schedule, relabel, reverse_rounds
from topocomm.schedule.bulk import copies, tree_up
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.reorder import WAYS
from topocomm.schedule.transfers import Transfers, chain, list_transfers
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["ENTRIES", "lanes", "nodes"]


def nodes(topology: Topology) -> int:
    """Count the ranks of each node; 1 if nodes of equal size are nowhere."""
    for level in reversed(topology.levels):
        members = topology.counts(level)
        if len(members) > 1 and members[0] > 1 and (members == members[0]).all():
            return int(members[0])
    return 1


def lanes(topology: Topology) -> Topology:
    """Return the same ranks in the same topology order, with no level but the nodes."""
    p, m = topology.size, nodes(topology)
    seen = Topology(topology.levels, topology.labels)
    inside = [np.arange(p) // m] if 1 < m < p else []
    seen.nesting = [np.zeros(p, np.int64), *inside, *([np.arange(p)] if p > 1 else [])]
    return seen


_COMPOSED = composed(NEAR_FIRST)


def _reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """Reduce and scatter inside the nodes, then on the lanes."""
    return _COMPOSED.build(lanes(topology), root, options)


def _reduce_scatter_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    assert _COMPOSED.bulk is not None
    return _COMPOSED.bulk(lanes(topology), root, options)


def _binomial(size: int, root: int) -> Tree:
    return Tree(near_first_layout(Topology.flat(size)), root)


def _bcast(topology: Topology, root: int, options: Options) -> Schedule:
    """Scatter inside the root's node, broadcast on the lanes, gather inside nodes; slot i is the share of lane i."""
    p, m = topology.size, nodes(topology)
    home, lane = divmod(int(topology.virtual[root]), m)
    inside, between = _binomial(m, lane), _binomial(p // m, home)

    def part(r: int) -> RankSchedule:
        node, i = divmod(int(topology.virtual[r]), m)
        members = topology.order[node * m : (node + 1) * m]
        up = relabel(reverse_rounds(near_first(m, i)), members, None)
        out = relabel(reverse_rounds(gather_rounds(inside, i)), members, None) if node == home else ()
        across = relabel(reverse_rounds(reduce_rounds(between, node, one(i))), topology.order[i::m], None)
        return RankSchedule(at_root(range(m), r, root), out + across + up, range(m))

    return Schedule(p, m, part, root)


def _bcast_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    p, m = topology.size, nodes(topology)
    members = topology.order.reshape(-1, m)
    home, lane = divmod(int(topology.virtual[root]), m)
    up = list_transfers(Schedule(m, m, lambda i: RankSchedule(range(m), near_first(m, i), range(m)))).reversed()
    return chain(
        copies(tree_up(_binomial(m, lane), False).reversed(), members[home : home + 1], p, m),
        copies(tree_up(_binomial(p // m, home), True).reversed(), members.T, p, m),
        copies(up, members, p, m),
    )


_FORM = Form(_reduce_scatter, _reduce_scatter_bulk)

ENTRIES = (
    Algorithm("multilane", "allgather", "on every lane between equal nodes, then inside the nodes",
              backwards(_FORM), lg, share, ways=WAYS),
    Algorithm("multilane", "allreduce", "inside equal nodes, on every lane between them, and back",
              there_and_back(_FORM), lambda p: 2 * lg(p), twice),
    Algorithm("multilane", "reduce_scatter", "inside equal nodes, then on every lane between them",
              _FORM, lg, share, ways=WAYS),
    Algorithm("multilane", "bcast", "a part on every lane between equal nodes; scatter and gather inside them",
              Form(_bcast, _bcast_bulk), lg, lambda p: Fraction(lg(p))),
)  # fmt: skip
