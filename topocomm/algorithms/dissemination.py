"""Barrier by dissemination.

In round k rank r tells r + 2^k that it, and all it has heard of, have arrived.

    p = 5, rank 0 has heard of     start: 0     round 0: 40     round 1: 2340     round 2: all

The topology-aware barrier collects inside each outermost place along a binomial tree, disseminates among the
places' leaders, and releases down the same trees.

    Requires     any p
    Rounds       ⌈lg p⌉; over places of g ranks in G places ⌈lg G⌉ + 2 ⌈lg g⌉
    Bytes sent   none, but ⌈lg p⌉ empty messages per rank
    Cost         ⌈lg p⌉ α
    Memory       none
    Locality     over places: G ⌈lg G⌉ messages between places, whatever their sizes
    Source       D. Hensgen, R. Finkel, U. Manber: Two algorithms for barrier synchronization, IJPP 17 (1988)
"""

from __future__ import annotations

import numpy as np

from topocomm.algorithms.counting import lg, no_bytes
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import NONE, all_slots
from topocomm.algorithms.leaders import among_leaders
from topocomm.algorithms.options import Options
from topocomm.schedule import Recv, Round, Schedule, Send
from topocomm.schedule.bulk import Row, join_rows
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES"]


def _rank_rounds(p: int, r: int) -> tuple[Round, ...]:
    rounds, step = [], 1
    while step < p:
        rounds.append(Round((Send((r + step) % p, NONE),), (Recv((r - step) % p, NONE),)))
        step *= 2
    return tuple(rounds)


def _textbook(topology: Topology, root: int, options: Options) -> Schedule:
    p = topology.size
    return all_slots(topology, 0, lambda r: _rank_rounds(p, r))


def _textbook_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    p = topology.size
    r = np.arange(p, dtype=np.int64)
    return join_rows(p, 0, [Row(r, (r + (1 << i)) % p, i, r * 0) for i in range(lg(p))])


ENTRIES = (
    Algorithm("dissemination", "barrier", "dissemination among the leaders of places",
              among_leaders(_rank_rounds, 0), lg, no_bytes),
    Algorithm("textbook_dissemination", "barrier", "dissemination in the order of ranks",
              Form(_textbook, _textbook_bulk), lg, no_bytes),
)  # fmt: skip
