"""Broadcast of large vectors: scatter the blocks along a binomial tree, then allgather them.

    p = 4, root 0        start    scatter             allgather
    rank 0               0123     0...                0123
    rank 1               ....     .1..                0123

The topology-aware form scatters along the binomial tree over places and gathers near last (the reversed near-first
reduce-scatter composed over levels). The textbook form scatters in the order of ranks relative to the root and
gathers around a ring.

    Requires     any p
    Rounds       ⌈lg p⌉ + ⌈lg p⌉ on one level (textbook ⌈lg p⌉ + p - 1)
    Bytes sent   at most 2 n (p - 1) / p per rank; n = bytes of the vector
    Cost         (⌈lg p⌉ + ⌈lg p⌉) α + 2 n (p - 1) / p β
    Memory       none beyond the vector
    Locality     between G places (G - 1) n bytes of the allgather and at most n (1 - g / p) lg G of the scatter
    Source       M. Barnett, S. Gupta, D. Payne, L. Shuler, R. van de Geijn, J. Watts: Interprocessor collective
                 communication library, SHPCC 1994; ring form: R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005)
"""

from __future__ import annotations

from topocomm.algorithms.binomial import gather_rounds
from topocomm.algorithms.counting import lg, twice
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import at_root, backwards, rank_order
from topocomm.algorithms.options import Options
from topocomm.algorithms.rabenseifner import REDUCE
from topocomm.algorithms.ring import reduce_scatter, ring_transfers
from topocomm.schedule import RankSchedule, Schedule, reverse_rounds
from topocomm.schedule.bulk import tree_up
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.transfers import Transfers, chain
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["ENTRIES"]


def _textbook(topology: Topology, root: int, options: Options) -> Schedule:
    """Scatter down the binomial tree, then gather around a ring; slot x holds the block that is left at rank x."""
    p, tree = topology.size, Tree(near_first_layout(rank_order(topology)), root)

    def part(r: int) -> RankSchedule:
        rounds = reverse_rounds(gather_rounds(tree, r)) + reverse_rounds(reduce_scatter(p, r))
        return RankSchedule(at_root(range(p), r, root), rounds, range(p))

    return Schedule(p, p, part, root)


def _textbook_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    tree = Tree(near_first_layout(rank_order(topology)), root)
    return chain(tree_up(tree, False).reversed(), ring_transfers(topology.size).reversed())


ENTRIES = (
    Algorithm("scatter_allgather", "bcast", "large vectors: scatter over places, then the near-last allgather",
              backwards(REDUCE), lambda p: 2 * lg(p), twice),
    Algorithm("textbook_scatter_allgather", "bcast", "scatter in the order of ranks, then a ring",
              Form(_textbook, _textbook_bulk), lambda p: lg(p) + p - 1, twice),
)  # fmt: skip
