"""Pairwise exchange: reduce-scatter and all-to-all, every block straight to its home.

In round s rank r sends the block for r + s and receives its own from r − s.

    p = 4, rank 0      round 0 (self)   round 1       round 2       round 3
    to / from          0 / 0            1 / 3         2 / 2         3 / 1

The topology-aware all-to-all counts r in topology order: near peers first. The topology-aware reduce-scatter is
composed over levels: inside a place first, so that only one combined copy of a block leaves it.

    Requires     reduce-scatter: a commutative operation
    Rounds       p - 1, and the all-to-all one round in which a rank copies its own block
    Bytes sent   n (p - 1) / p per rank; n = bytes of the rank's whole vector
    Cost         (p - 1) α + n (p - 1) / p β
    Memory       none (all-to-all); one block (reduce-scatter)
    Locality     all-to-all: every block crosses every boundary at most once, which is the least possible
    Source       R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in MPICH,
                 IJHPCA 19 (2005), §4.2 and §4.4
"""

from __future__ import annotations

import numpy as np

from topocomm.algorithms.counting import share, widest
from topocomm.algorithms.entry import Algorithm, Case, Form
from topocomm.algorithms.forms import composed, in_rank_order, textbook_reduce_scatter
from topocomm.algorithms.options import Options
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, Exchanges, RankSchedule, Schedule, relabel
from topocomm.schedule.bulk import LISTED, SAMPLE
from topocomm.schedule.compose import Flat
from topocomm.schedule.reorder import WAYS
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "MOST_PRICED", "exchanges", "reduce_scatter", "swap_blocks"]

MOST_PRICED = 1 << 16
"""Messages of a composed exchange beyond which it is no candidate: it takes long to price."""
_MOST_LISTED = 1 << 23
"""Messages beyond which it is not listed at all: that would take minutes."""
_LISTED_RANKS = 128
"""Up to this number of ranks all rounds of an all-to-all are used for the time, too."""


def reduce_scatter(p: int, r: int) -> tuple[Exchanges, ...]:
    """Make rank r's rounds; slot x holds the block whose home is rank x."""
    step = np.arange(1, p, dtype=np.int64)
    to = (r + step) % p
    return (Exchanges(to, to, (r - step) % p, np.full_like(step, r), combine=Combine.BEFORE),) if p > 1 else ()


def exchanges(p: int, r: int, window: int = 1) -> Exchanges:
    """Make rank r's all-to-all; slot x holds the block for rank x, slot p + x receives the block of rank x."""
    step = np.arange(p, dtype=np.int64)
    to, source = (r + step) % p, (r - step) % p
    return Exchanges(to, to, source, p + source, window)


def swap_blocks(ranks: IntArray, window: int) -> Schedule:
    """Make the all-to-all around the circle of ``ranks``, ``window`` exchanges a round."""
    p = len(ranks)
    place = np.empty(p, np.int64)
    place[ranks] = np.arange(p)
    slots = np.concatenate((ranks, p + ranks))

    def part(r: int) -> RankSchedule:
        body = relabel((exchanges(p, int(place[r]), window),), ranks, slots)
        return RankSchedule(range(p), body, range(p, 2 * p))

    return Schedule(p, 2 * p, part)


def _alltoall(topology: Topology, root: int, options: Options) -> Schedule:
    return swap_blocks(topology.order, 1)


def _all_pairs(p: int) -> Transfers:
    """List that in round s every rank sends one block s ranks on, 0 < s < p; of very many rounds a sample."""

    def rounds(steps: IntArray, weight: IntArray, sample: Transfers | None, exact: bool) -> Transfers:
        source = np.tile(np.arange(p, dtype=np.int64), len(steps))
        step, times = np.repeat(steps, p), np.repeat(weight, p)
        return Transfers(p, p, source, (source + step) % p, step, step, times, times, sample, exact)

    steps = np.arange(1, p, dtype=np.int64)
    ones = np.ones_like(steps)
    if p <= _LISTED_RANKS:
        return rounds(steps, ones, None, True)
    cuts = np.linspace(1, p, SAMPLE + 1).astype(np.int64)
    sample = rounds((cuts[:-1] + cuts[1:]) // 2, np.diff(cuts), None, False)
    return rounds(steps, ones, sample, True) if p * (p - 1) <= LISTED else sample


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return _all_pairs(topology.size).relabelled(topology.order)


def _trials(case: Case) -> list[str]:
    outermost = int(case.topology.nesting[min(1, len(case.topology.nesting) - 1)][-1]) + 1
    return [] if case.topology.size * outermost > MOST_PRICED else [""]


def _too_many(topology: Topology) -> str:
    return f"more than {_MOST_LISTED} messages" if topology.size * sum(widest(topology)) > _MOST_LISTED else ""


def _rounds(p: int) -> int:
    return p


_ALLTOALL = Form(_alltoall, _bulk)
_TEXTBOOK = textbook_reduce_scatter(reduce_scatter)

ENTRIES = (
    Algorithm("pairwise", "reduce_scatter", "every combined block straight to its home, level by level",
              composed(Flat(reduce_scatter)), lambda p: p - 1, share, ways=WAYS, trials=_trials, too_many=_too_many),
    Algorithm("textbook_pairwise", "reduce_scatter", "every block straight to its home",
              Form(_TEXTBOOK.build, in_rank_order(_ALLTOALL).bulk), lambda p: p - 1, share),
    Algorithm("pairwise", "alltoall", "every block straight to its destination, near ones first",
              _ALLTOALL, _rounds, share),
    Algorithm("textbook_pairwise", "alltoall", "every block straight to its destination, in the order of ranks",
              in_rank_order(_ALLTOALL), _rounds, share),
)  # fmt: skip
