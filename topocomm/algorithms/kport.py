"""Reduce-scatter and allgather in the fewest rounds where a rank talks to k others at a time, for any number of ranks.

The block for rank r + o travels along the digits of the offset o in radix q = k + 1, the lowest digit first: in round j
the blocks whose digit j is e hop from r to r + e q^j, and the k messages of a round overlap. What arrives is combined
with the receiver's block of the same destination. Reversed it is the concatenation of Bruck et al.: ⌈log_q p⌉ rounds,
after each of which a rank holds q times as much.

    p = 7, q = 3       rank r sends to          blocks for ranks
    round 0            r + 1, r + 2             r + 1, r + 4;  r + 2, r + 5
    round 1            r + 3, r + 6             r + 3;  r + 6

The topology-aware form does so among the children of every place, nearest level first. ``radix=Q`` sets q, unasked 4.

    Requires     a commutative operation (allgather: nothing)
    Rounds       ⌈log_q p⌉ of at most q - 1 messages (allreduce twice as many)
    Bytes sent   n (p - 1) / p per rank (allreduce twice that); n = bytes of the whole vector
    Cost         ⌈log_q p⌉ (α + (q - 2) o) + n (p - 1) / p (β + γ); o = what one more message of a round costs
    Memory       the vector, and the messages of a round
    Locality     composed over levels, it leaves a group only in that level's rounds
    Source       J. Bruck, C.-T. Ho, S. Kipnis, E. Upfal, D. Weathersby: Efficient algorithms for all-to-all
                 communications in multiport message-passing systems, IEEE TPDS 8 (1997); lowest digit first is ours
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from topocomm.algorithms.counting import share, twice
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import backwards, composed, in_rank_order, there_and_back
from topocomm.algorithms.options import Options
from topocomm.schedule import Combine, Recv, Round, Schedule, Send, shift_slots
from topocomm.schedule.compose import Flat
from topocomm.schedule.reorder import WAYS
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "reduce_scatter"]

_RADIX = 4


def reduce_scatter(p: int, r: int, radix: int) -> tuple[Round, ...]:
    """Make rank r's rounds over p ranks; slot x holds the block whose home is rank x."""
    offsets, rounds, weight = np.arange(p, dtype=np.int64), [], 1
    while weight < p:
        sends, recvs = [], []
        for e in range(1, radix):
            leave = offsets[(offsets % weight == 0) & (offsets // weight % radix == e)]
            if len(leave):
                sends.append(Send((r + e * weight) % p, shift_slots(leave, r, p)))
                recvs.append(Recv((r - e * weight) % p, shift_slots(leave - e * weight, r, p), Combine.BEFORE))
        rounds.append(Round(tuple(sends), tuple(recvs)))
        weight *= radix
    return tuple(rounds)


@lru_cache(maxsize=16)
def _form(radix: int) -> Form:
    return composed(Flat(lambda p, r: reduce_scatter(p, r, radix)))


def _radix(options: Options) -> int:
    return options.radix[0] if options.radix else _RADIX


def _build(topology: Topology, root: int, options: Options) -> Schedule:
    return _form(_radix(options)).build(topology, root, options)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    bulk = _form(_radix(options)).bulk
    assert bulk is not None
    return bulk(topology, root, options)


def _rounds(p: int) -> int:
    rounds, reached = 0, 1
    while reached < p:
        rounds, reached = rounds + 1, reached * _RADIX
    return rounds


def _rounds_of_both(p: int) -> int:
    return 2 * _rounds(p)


_FORM = Form(_build, _bulk)

ENTRIES = (
    Algorithm("kport", "reduce_scatter", "few rounds of several messages: along the digits of the offset, near first",
              _FORM, _rounds, share, ways=WAYS, radix=True),
    Algorithm("kport", "allgather", "few rounds of several messages: k-port concatenation, far first with one block",
              backwards(_FORM), _rounds, share, ways=WAYS, radix=True),
    Algorithm("textbook_kport", "allgather", "k-port concatenation in the order of ranks",
              in_rank_order(backwards(_FORM)), _rounds, share, radix=True),
    Algorithm("kport", "allreduce", "kport reduce_scatter, then kport allgather",
              there_and_back(_FORM), _rounds_of_both, twice, radix=True),
)  # fmt: skip
