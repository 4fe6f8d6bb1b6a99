"""All-to-all whose destinations are in no relation to the machine: at every moment all links are in use.

In step s rank r sends the block for the rank that is s places on from it in a shuffled circle of all ranks, WINDOW
steps at a time. Counted in the order of the machine instead, all ranks of a place send to the same other place at once,
and the links to all other places wait. The shuffle is the same on all ranks (a fixed generator).

    4 ranks in the circle 2 0 3 1     step 1: 2 to 0, 0 to 3, 3 to 1, 1 to 2     step 2: 2 to 3, 0 to 1, …

    Requires     any p; blocks of one size
    Rounds       ⌈p / WINDOW⌉ (with the copy of a rank's own block)
    Bytes sent   n (p - 1) / p per rank; n = bytes of the rank's whole vector
    Cost         (p - 1) overheads + n (p - 1) / p β
    Memory       none
    Locality     every block crosses every boundary at most once, which is the least possible; a link's load in a round
                 is as even as chance makes it
    Source       ours; random orders against contention: as in R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005),
                 §4.4, who scatter the destinations of neighbouring ranks
"""

from __future__ import annotations

import numpy as np

from topocomm.algorithms.counting import share
from topocomm.algorithms.entry import Algorithm, Case, Form
from topocomm.algorithms.options import Options
from topocomm.algorithms.pairwise import swap_blocks
from topocomm.algorithms.scattered import WINDOW, rounds_in_windows, windows
from topocomm.arrays import IntArray
from topocomm.schedule import Schedule
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "circle"]

_MOST_TRIED, _MOST_LISTED = 128, 256
"""Ranks beyond which it is no candidate, and not priced at all: no two of its messages cost the same."""
_MULTIPLIER, _INCREMENT = 6364136223846793005, 1442695040888963407


def circle(p: int) -> IntArray:
    """Shuffle the numbers 0 … p − 1 (Fisher and Yates), identically for everybody."""
    out = np.arange(p, dtype=np.int64)
    dice = 1
    for i in range(p - 1, 0, -1):
        dice = (dice * _MULTIPLIER + _INCREMENT) & 0xFFFFFFFFFFFFFFFF
        j = (dice >> 33) % (i + 1)
        out[i], out[j] = out[j], out[i]
    return out


def _build(topology: Topology, root: int, options: Options) -> Schedule:
    return swap_blocks(topology.order[circle(topology.size)], WINDOW)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return windows(topology.size).relabelled(topology.order[circle(topology.size)])


def _trials(case: Case) -> list[str]:
    return [] if case.topology.size > _MOST_TRIED else [""]


def _too_many(topology: Topology) -> str:
    return f"more than {_MOST_LISTED} ranks" if topology.size > _MOST_LISTED else ""


ENTRIES = (
    Algorithm("shuffled", "alltoall", "every block straight to its destination, in no order, 32 at a time",
              Form(_build, _bulk), rounds_in_windows, share, trials=_trials, too_many=_too_many),
)  # fmt: skip
