"""Sparbit's allgather: every block down a binomial tree of its own, farthest rank first, for any number of ranks.

The block of rank x is sent over offsets from x: in the round of distance d all ranks that hold it at a multiple of
2 d offsets pass it on to the rank d after them, if that is not past the last. All trees run at once, so that each
rank talks to one rank in a round, and the largest message goes nearest.

    p = 5, rank 0      start     round 0 (d = 4, from 1)   round 1 (d = 2, from 3)   round 2 (d = 1, from 4)
    blocks held        0....     01...                     01.3.                     01234

The published code sends every block of a round as a message of its own; here they travel as one.

    Requires     any p
    Rounds       ⌈lg p⌉
    Bytes sent   n (p - 1) / p per rank; n = bytes gathered
    Cost         ⌈lg p⌉ α + n (p - 1) / p β
    Memory       none beyond the result
    Locality     the round of distance d leaves an aligned group of g ranks from min(d, g) of its members
    Source       W. J. Loch, G. P. Koslovski: Sparbit: a new logarithmic-cost and data locality-aware MPI Allgather
                 algorithm, SBAC-PAD 2021, arXiv:2109.08751
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from topocomm.algorithms.counting import lg, share
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import backwards, textbook_reduce_scatter
from topocomm.algorithms.options import Options
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, Recv, Round, Send, shift_slots
from topocomm.schedule.bulk import Row, join_rows
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "Step", "along_bulk", "reduce_along", "steps"]

Step = tuple[int, IntArray]
"""Distance, and the offsets from their home at which blocks are passed on, ascending."""


@lru_cache(maxsize=64)
def steps(p: int) -> tuple[Step, ...]:
    """List the rounds: distances halve from the largest power of two below p."""
    distances = [1 << i for i in reversed(range((p - 1).bit_length()))]
    return tuple((d, np.arange(0, p - d, 2 * d, dtype=np.int64)) for d in distances)


def reduce_along(p: int, r: int, gather: Iterable[Step]) -> tuple[Round, ...]:
    """Make rank r's rounds of the reduce-scatter that takes an allgather's steps backwards; slot x: block of x."""
    rounds = []
    for d, offsets in reversed(tuple(gather)):
        arrive = np.sort((p - offsets) % p)
        leave = shift_slots(arrive, r - d, p)
        recv = Recv((r + d) % p, shift_slots(arrive, r, p), Combine.AFTER)
        rounds.append(Round((Send((r - d) % p, leave),), (recv,)))
    return tuple(rounds)


def along_bulk(p: int, gather: Iterable[Step]) -> Transfers:
    """List the messages of the reduce-scatter that takes an allgather's steps backwards."""
    r = np.arange(p, dtype=np.int64)
    rows = [Row(r, (r + d) % p, i, np.full(p, len(offsets))) for i, (d, offsets) in enumerate(gather)]
    return join_rows(p, p, rows).reversed()


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return along_bulk(topology.size, steps(topology.size))


_BACK = textbook_reduce_scatter(lambda p, r: reduce_along(p, r, steps(p)))

ENTRIES = (
    Algorithm("textbook_sparbit", "allgather", "to r + p / 2, …, r + 2, r + 1: a binomial tree a block, far first",
              backwards(Form(_BACK.build, _bulk)), lg, share),
)  # fmt: skip
