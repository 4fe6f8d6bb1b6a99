"""PAT, parallel aggregated trees: Bruck's allgather reversed, with a limit to what one message aggregates.

Every block travels down a binomial tree over offsets from its home, farthest rank first, and what different trees
send between the same ranks at once is one message. Without a limit these are ⌈lg p⌉ rounds, those of Sparbit. With
``aggregate=N`` no message has more than N blocks, so that intermediate buffers stay small: the far rounds come first
until a rank holds nearly N blocks; from each of these hangs a near subtree, and all of these subtrees, alike, are
walked depth first, one edge a round. The reduce-scatter is the allgather reversed in time.

    p = 8, allgather       offsets passed on by distance
    no limit               4: 0   2: 0 4   1: 0 2 4 6
    aggregate=2            4: 0   2: 0 4   1: 2 6   1: 0 4

    Requires     reduce-scatter: a commutative operation
    Rounds       ⌈lg p⌉; with aggregate = N (powers of two) lg N + p / N - 1
    Bytes sent   n (p - 1) / p per rank; n = bytes of the whole vector
    Cost         ⌈lg p⌉ α + n (p - 1) / p (β + γ), the allgather without γ
    Memory       in the network library N blocks a level of the tree; here the vector
    Locality     the round of distance d leaves an aligned group of g ranks from min(d, g) of its members; the most
                 bytes go nearest
    Source       S. Jeaugey: PAT: a new algorithm for all-gather and reduce-scatter operations at scale,
                 arXiv:2506.20252 (2025)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from topocomm.algorithms.counting import lg, share
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import backwards, one
from topocomm.algorithms.options import Options
from topocomm.algorithms.rivals import sparbit
from topocomm.schedule import RankSchedule, Schedule
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "steps"]


@lru_cache(maxsize=64)
def steps(p: int, aggregate: int | None = None) -> tuple[sparbit.Step, ...]:
    """List the rounds of the allgather; at most ``aggregate`` blocks a message."""
    every = sparbit.steps(p)
    near = 1
    while aggregate is not None and -(-p // near) > aggregate:
        near *= 2
    if near == 1:
        return every
    far = [(d, offsets) for d, offsets in every if d >= near]
    edges = [(d, np.arange(base, p - d, near, dtype=np.int64)) for d, base in _edges(0, near // 2)]
    return (*far, *((d, offsets) for d, offsets in edges if len(offsets)))


def _edges(base: int, d: int) -> Iterator[tuple[int, int]]:
    """Give (distance, offset) of all edges of the binomial tree at ``base``, depth first, far ones first."""
    while d:
        yield d, base
        d //= 2
        yield from _edges(base + 2 * d, d) if d else ()


def _build(topology: Topology, root: int, options: Options) -> Schedule:
    """Make the reduce-scatter in the order of ranks; slot x holds the block of rank x."""
    p, along = topology.size, steps(topology.size, options.aggregate)
    return Schedule(p, p, lambda r: RankSchedule(range(p), sparbit.reduce_along(p, r, along), one(r)))


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return sparbit.along_bulk(topology.size, steps(topology.size, options.aggregate))


_FORM = Form(_build, _bulk)

ENTRIES = (
    Algorithm("textbook_pat", "allgather", "as Sparbit, messages of at most N blocks where aggregate=N is given",
              backwards(_FORM), lg, share, aggregate=True),
    Algorithm("textbook_pat", "reduce_scatter", "PAT: r - 1, r - 2, …, a binomial tree a block, near first",
              _FORM, lg, share, aggregate=True),
)  # fmt: skip
