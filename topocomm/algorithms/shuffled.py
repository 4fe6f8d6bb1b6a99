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

from topocomm.algorithms import pairwise
from topocomm.algorithms.forms import Options
from topocomm.arrays import IntArray
from topocomm.schedule import RankSchedule, Schedule, relabel
from topocomm.topology import Topology

__all__ = ["alltoall", "circle"]

_MULTIPLIER, _INCREMENT = 6364136223846793005, 1442695040888963407


def circle(p: int) -> IntArray:
    """The numbers 0 … p − 1, shuffled (Fisher and Yates), the same for everybody."""
    out = np.arange(p, dtype=np.int64)
    dice = 1
    for i in range(p - 1, 0, -1):
        dice = (dice * _MULTIPLIER + _INCREMENT) & 0xFFFFFFFFFFFFFFFF
        j = (dice >> 33) % (i + 1)
        out[i], out[j] = out[j], out[i]
    return out


def alltoall(topology: Topology, root: int, options: Options) -> Schedule:
    """Around the shuffled circle of ranks in topology order, many at a time."""
    p = topology.size
    ranks = topology.order[circle(p)]
    place = np.empty(p, np.int64)
    place[ranks] = np.arange(p)
    slots = np.concatenate((ranks, p + ranks))

    def part(r: int) -> RankSchedule:
        rounds = pairwise.scattered(pairwise.alltoall(p, int(place[r])))
        return RankSchedule(range(p), relabel(rounds, ranks, slots), range(p, 2 * p))

    return Schedule(p, 2 * p, part)
