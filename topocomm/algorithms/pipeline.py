"""Broadcast of very large vectors along a chain, in segments; reversed, the reduce.

Every rank receives segment k from the one before it while it sends segment k - 1 to the one after it, so that all
links of the chain are busy at once. The topology-aware chain begins at the root and finishes each place before it goes
on to the next, the root's own places first.

    p = 3, 2 segments    round 0       round 1             round 2
    rank 0               sends 0       sends 1
    rank 1               receives 0    receives 1, sends 0   sends 1
    rank 2                             receives 0            receives 1

    Requires     reduce: a commutative operation
    Rounds       S + 1 on a rank, S = number of segments; the last rank is done after S + p - 2 steps
    Bytes sent   n per rank; n = bytes of the vector
    Cost         (S + p - 2) (α + n / S β)
    Memory       none beyond the vector (reduce: one segment)
    Locality     each of G places but one is entered once, with n bytes: (G - 1) n, the least possible
    Source       chain (pipeline) broadcast: J. Pješivac-Grbović et al.: Performance analysis of MPI collective
                 operations, Cluster Computing 10 (2007)
"""

from __future__ import annotations

import numpy as np

from topocomm.algorithms.counting import whole_vector
from topocomm.algorithms.entry import Algorithm, Case, Form
from topocomm.algorithms.forms import at_root, backwards, chain_order, one
from topocomm.algorithms.options import Options
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send, relabel
from topocomm.schedule.reorder import inverse
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "SEGMENTS"]

SEGMENTS = 32
_MOST_TRIED, _MOST_LISTED = 2 * SEGMENTS, 512
"""Ranks beyond which it is no candidate (segments too few for the chain), and not priced at all: an event a message."""


def _rank_rounds(p: int, r: int) -> tuple[Round, ...]:
    """Make the rounds at position r of the chain whose head, position 0, is the root; slot k is segment k."""
    first, last = r == 0, r == p - 1
    if p == 1:
        return ()
    rounds = []
    for k in range(SEGMENTS + (not first and not last)):
        give = k - (not last)  # what came in the round before goes on
        sends = (Send(r - 1, one(give)),) if not first and give >= 0 else ()
        recvs = (Recv(r + 1, one(k), Combine.AFTER),) if not last and k < SEGMENTS else ()
        rounds.append(Round(sends, recvs))
    return tuple(rounds)


def _reduce(topology: Topology, root: int, options: Options) -> Schedule:
    p, chain = topology.size, chain_order(topology, root)
    position, everything = inverse(chain), range(SEGMENTS)

    def part(r: int) -> RankSchedule:
        body = relabel(_rank_rounds(p, int(position[r])), chain, None)
        return RankSchedule(everything, body, at_root(everything, r, root))

    return Schedule(p, SEGMENTS, part, root)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    """List that position q of the chain hands segment k to q − 1 in the round after it came."""
    p = topology.size
    q = np.repeat(np.arange(1, p, dtype=np.int64), SEGMENTS)
    k = np.tile(np.arange(SEGMENTS, dtype=np.int64), max(p - 1, 0))
    ones = np.ones_like(q)
    up = Transfers(p, SEGMENTS, q, q - 1, k + (q < p - 1), k, ones, ones)
    return up.relabelled(chain_order(topology, root))


def _rounds(p: int) -> int:
    """Return the rounds of a rank in the middle of the chain."""
    return SEGMENTS * min(p - 1, 1) + (p > 2)


def _trials(case: Case) -> list[str]:
    return [] if case.topology.size > _MOST_TRIED else [""]


def _too_many(topology: Topology) -> str:
    return f"more than {_MOST_LISTED} ranks" if topology.size > _MOST_LISTED else ""


_REDUCE = Form(_reduce, _bulk)

ENTRIES = (
    Algorithm("pipeline", "bcast", "very large vectors: segments along a chain over places",
              backwards(_REDUCE), _rounds, whole_vector, trials=_trials, too_many=_too_many),
    Algorithm("pipeline", "reduce", "very large vectors: segments along a chain over places",
              _REDUCE, _rounds, whole_vector, trials=_trials, too_many=_too_many),
)  # fmt: skip
