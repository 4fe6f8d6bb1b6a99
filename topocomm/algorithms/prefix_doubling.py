"""Scan and exscan of small vectors: every rank doubles the number of ranks before it that it knows the sum of.

In round k rank r sends what it has to rank r + 2^k, which puts it before its own. An exscan first moves every operand
to the next rank.

    scan, p = 4     start   round 0 (r + 1)   round 1 (r + 2)
    rank 0          0       0                 0
    rank 1          1       01                01
    rank 2          2       12                012
    rank 3          3       23                0123

The topology-aware form needs outermost places of ranks that follow each other: each place but the last collects its sum
at its first rank along a binomial tree, these first ranks double among each other, each gives what it has to the next,
and every place scans from there. Other topologies take the textbook form, as the order of ranks must be kept.

    Requires     nothing; of places that ranks follow each other in them, else they are not looked at
    Rounds       scan ⌈lg p⌉, exscan 1 + ⌈lg (p - 1)⌉; with G places of g ranks 2 ⌈lg g⌉ + ⌈lg (G - 1)⌉ + 1 (exscan + 1)
    Bytes sent   n for each round, at most
    Cost         ⌈lg p⌉ (α + n (β + γ))
    Memory       one vector beyond the result, an exscan two
    Locality     between places (G - 1) lg (G - 1) messages of n bytes, at most, and G - 1 more; textbook form p lg p
    Order        operands combined in the order of ranks
    Source       W. D. Hillis, G. L. Steele: Data parallel algorithms, CACM 29 (1986), "partial sums"; the form on
                 places is ours
"""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction

import numpy as np

from topocomm.algorithms.binomial import reduce_rounds
from topocomm.algorithms.counting import lg
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import NONE, one, rank_order
from topocomm.algorithms.options import Options
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send, Slots, relabel
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["ENTRIES"]


def _doubling(ranks: range, r: int, slots: Slots) -> tuple[Round, ...]:
    """Make rank r's rounds of a scan of ``slots`` over ``ranks``."""
    rounds, distance = [], 1
    while distance < len(ranks):
        sends = (Send(r + distance, slots),) if r + distance in ranks else ()
        recvs = (Recv(r - distance, slots, Combine.BEFORE),) if r - distance in ranks else ()
        rounds.append(Round(sends, recvs))
        distance *= 2
    return tuple(rounds)


def _ends(topology: Topology) -> list[int]:
    """Return where the outermost places end, if ranks follow each other in them; else all ranks are one place."""
    firsts = near_first_layout(topology).first
    ends: list[int] = [] if len(firsts) < 2 else firsts[1][1:].tolist()
    return ends if topology.is_sorted and 1 < len(ends) < topology.size else [topology.size]


class _Prefix:
    """The rounds of all ranks: ``operand`` and ``result`` are slots of every rank, one and the same in a scan."""

    def __init__(self, topology: Topology, exclusive: bool) -> None:
        self.exclusive, self.ends = exclusive, _ends(topology)
        self.operand, self.result = one(0), one(1 if exclusive else 0)
        self.total = one(2 if exclusive else 1)
        self.nslots = 1 + exclusive + (len(self.ends) > 1)
        self.tree = Tree(near_first_layout(topology), outermost=1) if len(self.ends) > 1 else None
        self.firsts = [0, *self.ends[:-1]]

    def part(self, r: int) -> RankSchedule:
        """Make rank r's part."""
        place = bisect_right(self.ends, r)
        rounds = self._sum_of_place(r, place) + self._before_place(r, place) + self._inside(r, place)
        store = NONE if self.exclusive and r == 0 else self.result
        return RankSchedule(self.operand, tuple(rnd for rnd in rounds if rnd.sends or rnd.recvs), store)

    def _sum_of_place(self, r: int, place: int) -> tuple[Round, ...]:
        """Bring the sum of a place to its first rank; nobody needs that of the last one."""
        if self.tree is None or place == len(self.ends) - 1:
            return ()
        copy = Round((Send(r, self.operand),), (Recv(r, self.total),))
        return (copy, *reduce_rounds(self.tree, r, self.total))

    def _before_place(self, r: int, place: int) -> tuple[Round, ...]:
        """Bring the sum of all places before to the first rank of each."""
        last = len(self.ends) - 1
        if r != self.firsts[place] or not last:
            return ()
        among = _doubling(range(last), place, self.total) if place < last else ()
        sends = (Send(place + 1, self.total),) if place < last else ()
        how = Combine.REPLACE if self.exclusive else Combine.BEFORE
        recvs = (Recv(place - 1, self.result, how),) if place else ()
        return relabel((*among, Round(sends, recvs)), np.array(self.firsts), None)

    def _inside(self, r: int, place: int) -> tuple[Round, ...]:
        """Scan inside a place, from what its first rank has."""
        ranks = range(self.firsts[place], self.ends[place])
        if not self.exclusive:
            return _doubling(ranks, r, self.result)
        sends = (Send(r + 1, self.operand),) if r + 1 in ranks else ()
        recvs = (Recv(r - 1, self.result),) if r - 1 in ranks else ()
        having = ranks if place else ranks[1:]
        return (Round(sends, recvs), *(_doubling(having, r, self.result) if r in having else ()))


def _form(exclusive: bool, textbook: bool) -> Form:
    def build(topology: Topology, root: int, options: Options) -> Schedule:
        prefix = _Prefix(rank_order(topology) if textbook else topology, exclusive)
        return Schedule(topology.size, prefix.nslots, prefix.part, in_order=True)

    return Form(build)


def _exscan_rounds(p: int) -> int:
    return 1 + lg(p - 1) if p > 1 else 0


def _scan_sent(p: int) -> Fraction:
    return Fraction(lg(p))


def _exscan_sent(p: int) -> Fraction:
    return Fraction(_exscan_rounds(p))


ENTRIES = (
    Algorithm("prefix_doubling", "scan", "small vectors: doubling among the first ranks of places, then inside each",
              _form(False, False), lg, _scan_sent, in_order=True, whole=True),
    Algorithm("textbook_prefix_doubling", "scan", "to r + 1, r + 2, r + 4, … with the whole vector",
              _form(False, True), lg, _scan_sent, in_order=True, whole=True),
    Algorithm("prefix_doubling", "exscan", "small vectors: doubling among the first ranks of places, then inside each",
              _form(True, False), _exscan_rounds, _exscan_sent, in_order=True, whole=True),
    Algorithm("textbook_prefix_doubling", "exscan", "to the next rank, then to r + 1, r + 2, … with the whole vector",
              _form(True, True), _exscan_rounds, _exscan_sent, in_order=True, whole=True),
)  # fmt: skip
