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

from topocomm.algorithms import binomial, ring
from topocomm.schedule import Round, reverse_rounds
from topocomm.schedule.tree import Tree

__all__ = ["textbook_bcast"]


def textbook_bcast(tree: Tree, p: int, r: int) -> tuple[Round, ...]:
    """Rank r's rounds; slot x holds the block that the scatter leaves at rank x."""
    return reverse_rounds(binomial.gather(tree, r)) + reverse_rounds(ring.reduce_scatter(p, r))
