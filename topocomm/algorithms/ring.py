"""Ring reduce-scatter; reversed, the ring allgather; one after the other, the ring allreduce.

Each block travels once around the ring and ends at its home; a rank only ever talks to its two neighbours.

    p = 4, rank 0 sends to 1      round 0     round 1     round 2
    sends the partial block       3           2           1
    receives the partial block    2           1           0

The topology-aware form puts the ring in topology order: it leaves every place exactly once.

    Requires     a commutative operation
    Rounds       p - 1 (allreduce 2 (p - 1))
    Bytes sent   n (p - 1) / p per rank (allreduce twice that); n = bytes of the whole vector
    Cost         (p - 1) α + n (p - 1) / p (β + γ)
    Memory       one block beyond the vector
    Locality     in topology order each of G places sends n (p - 1) / p bytes to one other: G / (G - 1) of the least
    Source       P. Patarasuk, X. Yuan: Bandwidth optimal all-reduce algorithms for clusters of workstations, JPDC 69
                 (2009)
"""

from __future__ import annotations

import numpy as np

from topocomm.algorithms.counting import share, twice
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import backwards, in_rank_order, one, there_and_back
from topocomm.algorithms.options import Options
from topocomm.schedule import Combine, Item, Recv, Repeat, Round, Schedule, Send, reorder
from topocomm.schedule.compose import Flat
from topocomm.schedule.reorder import WAYS
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "RING", "reduce_scatter", "ring_transfers"]


def reduce_scatter(p: int, r: int) -> tuple[Item, ...]:
    """Make rank r's rounds; slot x holds the block whose home is rank x."""
    if p == 1:
        return ()
    first = Round((Send((r + 1) % p, one((r - 1) % p)),), (Recv((r - 1) % p, one((r - 2) % p), Combine.BEFORE),))
    return (Repeat(first, p - 1, -1, p),)


def ring_transfers(p: int) -> Transfers:
    """List p − 1 rounds of one block to the next rank: one entry a rank."""
    r = np.arange(p if p > 1 else 0, dtype=np.int64)
    zero, turns = np.zeros_like(r), np.full(len(r), p - 1, np.int64)
    return Transfers(p, p, r, (r + 1) % p, zero, zero, turns, turns)


def _build(topology: Topology, root: int, options: Options) -> Schedule:
    p = topology.size
    return reorder.reduce_scatter(topology, np.arange(p), lambda v: reduce_scatter(p, v), options.way)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return ring_transfers(topology.size).relabelled(topology.order)


def _rounds(p: int) -> int:
    return p - 1


def _rounds_of_both(p: int) -> int:
    return 2 * (p - 1)


RING = Flat(reduce_scatter)
_FORM = Form(_build, _bulk)

ENTRIES = (
    Algorithm("ring", "allgather", "a ring in topology order",
              backwards(_FORM), _rounds, share, ways=WAYS),
    Algorithm("textbook_ring", "allgather", "a ring in the order of ranks",
              in_rank_order(backwards(_FORM)), _rounds, share),
    Algorithm("ring", "allreduce", "a ring in topology order",
              there_and_back(_FORM), _rounds_of_both, twice),
    Algorithm("textbook_ring", "allreduce", "a ring in the order of ranks",
              in_rank_order(there_and_back(_FORM)), _rounds_of_both, twice),
    Algorithm("ring", "reduce_scatter", "a ring in topology order",
              _FORM, _rounds, share, ways=WAYS),
)  # fmt: skip
