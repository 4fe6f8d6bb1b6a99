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

from topocomm.algorithms.forms import Options, one
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send, reverse_rounds
from topocomm.topology import Topology

__all__ = ["allgather", "exchanges", "reduce_scatter", "rounds", "sent"]

RADIX = 2


class _Digits:
    """Rank arithmetic: ``q`` = radix^``length`` ranks take part; new rank w is rank ``old[w]`` and owns the blocks
    ``cuts[w]`` … ``cuts[w + 1] − 1``, its own the last of them; ``reversed[w]`` has the digits of w reversed."""

    def __init__(self, p: int, radix: int) -> None:
        self.radix, self.length, self.q = radix, 0, 1
        while self.q * radix <= p:
            self.q *= radix
            self.length += 1
        w = np.arange(self.q, dtype=np.int64)
        in_groups = (p - self.q) * radix // (radix - 1)  # so many ranks of the first are in groups
        self.old = np.where((w + 1) * radix <= in_groups, (w + 1) * radix - 1, w + p - self.q)
        self.cuts = np.concatenate(([0], self.old + 1))
        self.reversed = np.zeros_like(w)
        for i in range(self.length):
            self.reversed = self.reversed * radix + w // radix**i % radix

    def new_rank(self, r: int) -> int:
        """The new rank that owns the block of rank r."""
        return int(np.searchsorted(self.cuts, r, "right")) - 1

    def run(self, first: int, count: int) -> range:
        """The blocks that new ranks ``first`` … ``first + count − 1`` own."""
        return range(int(self.cuts[first]), int(self.cuts[first + count]))


@lru_cache(maxsize=16)
def _digits(p: int, radix: int) -> _Digits:
    return _Digits(p, radix)


def _reduce_scatter(p: int, r: int, radix: int) -> tuple[Round, ...]:
    """Rank r's rounds; slot x holds the block of rank x."""
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


def reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """In the order of ranks."""
    p, radix = topology.size, (options.radix or (RADIX,))[0]
    return Schedule(p, p, lambda r: RankSchedule(range(p), _reduce_scatter(p, r, radix), one(r)))


def allgather(topology: Topology, root: int, options: Options) -> Schedule:
    """The reduce-scatter reversed."""
    p, radix = topology.size, (options.radix or (RADIX,))[0]
    return Schedule(p, p, lambda r: RankSchedule(one(r), reverse_rounds(_reduce_scatter(p, r, radix)), range(p)))


def exchanges(p: int, radix: int = RADIX) -> list[tuple[IntArray, IntArray, IntArray]]:
    """The rounds of the reduce-scatter for all ranks at once: (senders, receivers, blocks)."""
    d = _digits(p, radix)
    w, base = np.arange(d.q), np.zeros(d.q, np.int64)
    folded = np.setdiff1d(np.arange(p), d.old)
    takes = d.old[np.searchsorted(d.cuts, folded, "right") - 1]
    out = [(folded, takes, np.full(len(folded), p))]
    width, weight = d.q, 1
    for _ in range(d.length):
        width //= radix
        digit = w // weight % radix
        rows = [
            (w + ((digit + e) % radix - digit) * weight, base + (digit + e) % radix * width) for e in range(1, radix)
        ]
        blocks = [d.cuts[low + width] - d.cuts[low] for _, low in rows]
        peers = np.concatenate([peer for peer, _ in rows])
        out.append((np.tile(d.old, radix - 1), d.old[peers], np.concatenate(blocks)))
        base, weight = base + digit * width, weight * radix
    moved = w[d.reversed != w]
    there = d.reversed[moved]
    out.append((d.old[moved], d.old[there], d.cuts[there + 1] - d.cuts[there]))
    return [*out, (takes, folded, np.ones_like(folded))]


def rounds(p: int) -> int:
    """The most rounds of any rank, in radix 2."""
    d = _digits(p, RADIX)
    return d.length + (d.length > 1) + 2 * (p > d.q)


def sent(p: int, back: bool = False) -> Fraction:
    """The most that any rank sends in the reduce-scatter (``back``: in the allgather) in radix 2, in vectors."""
    total = np.zeros(p, np.int64)
    for source, target, blocks in exchanges(p):
        np.add.at(total, target if back else source, blocks)
    return Fraction(int(total.max()), p)
