"""Recursive exchange with distance halving in any radix: allgather, and reduce-scatter as its reverse.

Ranks are numbers of L digits in radix k. In the allgather every rank first hands its block to the rank whose digits
are its own reversed; then, highest digit first, the k ranks that differ in one digit exchange all they hold. So the
largest messages go nearest and all are contiguous runs of blocks. The reduce-scatter runs backwards: near first, and
at last every finished block goes to the rank with reversed digits.

    k = 2, p = 8, rank 1      start   from 4   round 1 (r ^ 4)   round 2 (r ^ 2)   round 3 (r ^ 1)
    allgather, blocks held    1       4        45                4567              01234567

For p between powers of k the first ranks form groups of k whose last one takes part for the others: they hand over
their blocks (reduce-scatter: their vectors) before and get the results (their blocks) after.

    Requires     reduce-scatter: a commutative operation
    Rounds       L + 1 (L for L < 2), and 2 more where it folds; q = k^L the power of k up to p
    Bytes sent   n per rank (k = 2, p a power of two): n (p - 1) / p and one block n / p in the first exchange; more
                 where it folds; n = bytes of the whole vector
    Cost         (L (k - 1) + 1) α + n β
    Memory       none beyond the vector, and the largest messages received
    Locality     near ranks exchange the most; the first exchange goes anywhere, with one block
    Source       P. Sack, W. Gropp: Faster topology-aware collective algorithms through non-minimal communication,
                 PPoPP 2012; as in MPICH's recexch_halving
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import backwards, one
from topocomm.algorithms.options import Options
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send
from topocomm.schedule.bulk import Row, join_rows
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "exchanges"]

RADIX = 2
"""The radix if none is asked for."""


class _Digits:
    """Rank arithmetic: ``q`` = radix^``length`` ranks take part; new rank w is rank ``old[w]`` and owns the blocks
    ``cuts[w]`` … ``cuts[w + 1] − 1``, its own the last of them; ``reversed[w]`` has the digits of w reversed."""

    def __init__(self, p: int, radix: int) -> None:
        self.radix, self.length, self.q = radix, 0, 1
        while self.q * radix <= p:
            self.q *= radix
            self.length += 1
        w = np.arange(self.q, dtype=np.int64)
        in_groups = (p - self.q) * radix // (radix - 1)  # the first ranks, which are in groups
        self.old = np.where((w + 1) * radix <= in_groups, (w + 1) * radix - 1, w + p - self.q)
        self.cuts = np.concatenate(([0], self.old + 1))
        self.reversed = np.zeros_like(w)
        for i in range(self.length):
            self.reversed = self.reversed * radix + w // radix**i % radix

    def new_rank(self, r: int) -> int:
        """Return the new rank that owns the block of rank r."""
        return int(np.searchsorted(self.cuts, r, "right")) - 1

    def run(self, first: int, count: int) -> range:
        """Return the blocks that new ranks ``first`` … ``first + count − 1`` own."""
        return range(int(self.cuts[first]), int(self.cuts[first + count]))


@lru_cache(maxsize=16)
def _digits(p: int, radix: int) -> _Digits:
    return _Digits(p, radix)


def _rank_rounds(p: int, r: int, radix: int) -> tuple[Round, ...]:
    """Make rank r's rounds; slot x holds the block of rank x."""
    d = _digits(p, radix)
    w = d.new_rank(r)
    mine, home = d.run(w, 1), int(d.reversed[w])
    absorbed, last = mine[:-1], int(d.old[w])
    if r != last:
        return (Round((Send(last, range(p)),)), Round((), (Recv(last, one(r)),)))
    body = [Round((), tuple(Recv(x, range(p), Combine.BEFORE) for x in absorbed))] if absorbed else []
    base, width, weight = 0, d.q, 1
    for _ in range(d.length):
        width //= radix
        digit = w // weight % radix
        peers = [(c, int(d.old[w + (c - digit) * weight])) for c in range(radix) if c != digit]
        kept = d.run(base + digit * width, width)
        sends = tuple(Send(peer, d.run(base + c * width, width)) for c, peer in peers)
        body.append(Round(sends, tuple(Recv(peer, kept, Combine.BEFORE) for _, peer in peers)))
        base, weight = base + digit * width, weight * radix
    if home != w:
        body.append(Round((Send(int(d.old[home]), d.run(home, 1)),), (Recv(int(d.old[home]), mine),)))
    if absorbed:
        body.append(Round(tuple(Send(x, one(x)) for x in absorbed)))
    return tuple(body)


def exchanges(p: int, radix: int = RADIX) -> list[Row]:
    """List the rounds of the reduce-scatter of all ranks at once."""
    d = _digits(p, radix)
    w, base = np.arange(d.q), np.zeros(d.q, np.int64)
    folded = np.setdiff1d(np.arange(p), d.old)
    takes = d.old[np.searchsorted(d.cuts, folded, "right") - 1]
    rows = [Row(folded, takes, 0, np.full(len(folded), p))]
    width, weight = d.q, 1
    for i in range(d.length):
        width //= radix
        digit = w // weight % radix
        other = np.arange(radix - 1) + (np.arange(radix - 1) >= digit[:, None])  # in the order in which a rank sends
        peers = (w[:, None] + (other - digit[:, None]) * weight).ravel()
        low = (base[:, None] + other * width).ravel()
        rows.append(Row(np.repeat(d.old, radix - 1), d.old[peers], 1 + i, d.cuts[low + width] - d.cuts[low]))
        base, weight = base + digit * width, weight * radix
    moved = w[d.reversed != w]
    there = d.reversed[moved]
    rows.append(Row(d.old[moved], d.old[there], 1 + d.length, d.cuts[there + 1] - d.cuts[there]))
    return [*rows, Row(takes, folded, 2 + d.length, np.ones_like(folded))]


def _rounds(p: int) -> int:
    """Return the most rounds of any rank, in radix 2."""
    d = _digits(p, RADIX)
    return d.length + (d.length > 1) + 2 * (p > d.q)


def _sent(p: int, back: bool = False) -> Fraction:
    """Return the most that any rank sends in the reduce-scatter (``back``: allgather) in radix 2, in vectors."""
    total = np.zeros(p, np.int64)
    for row in exchanges(p):
        np.add.at(total, row.target if back else row.source, row.blocks)
    return Fraction(int(total.max()), p)


def _build(topology: Topology, root: int, options: Options) -> Schedule:
    p, radix = topology.size, (options.radix or (RADIX,))[0]
    return Schedule(p, p, lambda r: RankSchedule(range(p), _rank_rounds(p, r, radix), one(r)))


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    p = topology.size
    return join_rows(p, p, exchanges(p, (options.radix or (RADIX,))[0]))


_FORM = Form(_build, _bulk)

ENTRIES = (
    Algorithm("textbook_recexch", "allgather", "recursive exchange: a block to the rank reversed, then far first",
              backwards(_FORM), _rounds, lambda p: _sent(p, True), radix=True),
    Algorithm("textbook_recexch", "reduce_scatter", "recursive exchange, distance doubling, then to the reversed rank",
              _FORM, _rounds, _sent, radix=True),
)  # fmt: skip
