"""Scattered all-to-all: every block straight to its destination, WINDOW messages of a rank under way at a time.

In round t rank r sends the blocks for r + t WINDOW, …, r + (t + 1) WINDOW − 1, counted in topology order: near peers
first, as in the pairwise exchange, but no message waits for the one before it. Better for all but the largest blocks.

    p = 6, WINDOW = 4, rank 0     round 0              round 1
    to                            0 (self), 1, 2, 3    4, 5
    from                          0 (self), 5, 4, 3    2, 1

    Requires     any p; blocks of one size
    Rounds       ⌈p / WINDOW⌉ (with the copy of a rank's own block)
    Bytes sent   n (p - 1) / p per rank; n = bytes of the rank's whole vector
    Cost         (p - 1) overheads + n (p - 1) / p β
    Memory       none
    Locality     every block crosses every boundary at most once, which is the least possible
    Source       R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in MPICH,
                 IJHPCA 19 (2005), §4.4
"""

from __future__ import annotations

import numpy as np

from topocomm.algorithms.counting import share
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.options import Options
from topocomm.algorithms.pairwise import swap_blocks
from topocomm.arrays import IntArray
from topocomm.schedule import Schedule
from topocomm.schedule.bulk import LISTED
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "WINDOW", "rounds_in_windows", "windows"]

WINDOW = 32
"""Messages of a rank that are under way at a time."""
_SAMPLED = 1 << 17
"""Messages in a sample of the rounds."""


def _build(topology: Topology, root: int, options: Options) -> Schedule:
    return swap_blocks(topology.order, WINDOW)


def windows(p: int) -> Transfers:
    """List the messages among ranks 0 … p − 1; of very many rounds a sample for the time."""
    rounds = rounds_in_windows(p)

    def some(numbers: IntArray, weight: IntArray, sample: Transfers | None, exact: bool) -> Transfers:
        steps = (numbers[:, None] * WINDOW + np.arange(WINDOW)).ravel()
        times = np.repeat(weight, WINDOW)[(steps > 0) & (steps < p)]
        steps = steps[(steps > 0) & (steps < p)]
        source = np.tile(np.arange(p, dtype=np.int64), len(steps))
        number, repeat, step = np.repeat(steps // WINDOW, p), np.repeat(times, p), np.repeat(steps, p)
        return Transfers(p, p, source, (source + step) % p, number, number, repeat, repeat, sample, exact)

    every = np.arange(rounds, dtype=np.int64)
    picked = max(1, _SAMPLED // (p * WINDOW))
    if picked >= rounds:
        return some(every, np.ones_like(every), None, True)
    cuts = np.linspace(0, rounds, picked + 1).astype(np.int64)
    sample = some((cuts[:-1] + cuts[1:]) // 2, np.diff(cuts), None, False)
    return some(every, np.ones_like(every), sample, True) if p * p <= LISTED else sample


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return windows(topology.size).relabelled(topology.order)


def rounds_in_windows(p: int) -> int:
    """Return the number of rounds, that of a rank's own block included."""
    return -(-p // WINDOW)


ENTRIES = (
    Algorithm("scattered", "alltoall", "every block straight to its destination, 32 at a time",
              Form(_build, _bulk), rounds_in_windows, share),
)  # fmt: skip
