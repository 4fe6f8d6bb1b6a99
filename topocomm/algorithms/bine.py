"""Bine trees: reduce-scatter, allgather and allreduce along binomial negabinary distances, in the order of ranks.

In step i rank r meets the rank at distance ρ(i) = (1 − (−2)^(i+1)) / 3 = 1, −1, 3, −5, 11, …: even ranks count it
upwards, odd ones downwards, modulo p. The distances are shorter than powers of two, so that fewer bytes leave a group
of consecutive ranks. Placements are not looked at: this is the rival's algorithm, kept for comparison.

    p = 8, rank        meets in step 0, 1, 2     sends in step 0, 1, 2 the blocks of ranks
    0                  1, 7, 3                   1 2 5 6, 4 7, 3
    1                  0, 2, 6                   0 3 4 7, 2 5, 6

Which block leaves in which step is written in ν: the bit reversal of the Gray code of the negabinary word of its
distance, k = ⌈lg p⌉ bits. The block c > 0 away (upwards for even r, downwards for odd r) leaves in step
k − 1 − msb ν(c). For a few p (74, 142, 146, …) these steps do not chain; there blocks leave as late as they can.
An odd p folds: rank p − 1 hands its vector to p − 2, which works for both.

    Requires     a commutative operation
    Rounds       ⌈lg p⌉ (allreduce twice that), and 2 more for odd p
    Bytes sent   n (p - 1) / p per rank (allreduce twice that); n = bytes of the whole vector; more for odd p
    Cost         ⌈lg p⌉ α + n (p - 1) / p (β + γ), the allgather without γ
    Memory       the vector, and the largest message received
    Locality     distance of step i about 2^(i+1) / 3; the largest messages go nearest
    Source       D. De Sensi et al.: Bine trees, SC'25, arXiv:2508.17311
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

from topocomm.algorithms.forms import Options
from topocomm.arrays import IntArray
from topocomm.schedule import (
    Combine,
    RankSchedule,
    Recv,
    Round,
    Schedule,
    Send,
    Slots,
    compact,
    exchange,
    reverse_rounds,
)
from topocomm.topology import Topology

__all__ = [
    "allgather",
    "allreduce",
    "distance",
    "leaving",
    "meetings",
    "reduce_scatter",
    "rounds",
    "sent",
    "sent_allgather",
    "steps",
]

_MASK = 0xAAAAAAAA


def steps(p: int) -> int:
    """The number of steps: ⌈lg p⌉."""
    return (p - 1).bit_length()


def rounds(p: int) -> int:
    """The most rounds of any rank."""
    return steps(p - p % 2) + 2 * (p % 2) if p > 1 else 0


def sent(p: int) -> Fraction:
    """The most that any rank sends in a reduce-scatter, in vectors."""
    return Fraction(p - 1 + p % 2, p) if p > 1 else Fraction(0)


def sent_allgather(p: int) -> Fraction:
    """The most that any rank sends in an allgather, in vectors: for odd p by the rank that hands over everything."""
    return Fraction(2 * p - 2 + steps(p - 1), p) if p % 2 and p > 1 else sent(p)


def distance(i: int) -> int:
    """ρ(i), the distance of step i: 1, −1, 3, −5, 11, …"""
    return (1 - (2 << i) if i % 2 else 1 + (2 << i)) // 3


def _negabinary(x: int) -> int:
    return ((x + _MASK) ^ _MASK) & 0xFFFFFFFF


def _nu(r: int, p: int) -> int:
    """ν(r): where rank r stands in the tree of rank 0."""
    k = steps(p)
    words = [_negabinary(-r), _negabinary(p - r)] if r % 2 == 0 else [_negabinary(r), _negabinary(r - p)]
    fitting = [w for w in words if w < 1 << k]
    return min(int(format(w ^ (w >> 1), f"0{k}b")[::-1], 2) for w in fitting)


def _chains(step: dict[int, int]) -> bool:
    """Whether each block, once it has moved, leaves its new place in a later step, or is at home."""
    p = len(step)
    return all(c == 0 or step[(distance(i) - c) % p] > i for c, i in step.items())


def _latest(p: int) -> dict[int, int]:
    """The step in which a block at each distance leaves if it leaves as late as possible."""
    step = {0: steps(p)}
    for i in range(steps(p) - 1, -1, -1):
        for c in list(step):
            step.setdefault((distance(i) - c) % p, i)
    return step


@lru_cache(maxsize=64)
def leaving(p: int) -> tuple[IntArray, ...]:
    """For every step the distances c of the blocks that leave in it; p even. Total p − 1."""
    k = steps(p)
    step = {0: k} | {c: k - _nu(c, p).bit_length() for c in range(1, p)}
    if not _chains(step):
        step = _latest(p)
    return tuple(np.array([c for c in range(1, p) if step[c] == i], np.int64) for i in range(k))


def meetings(p: int, r: int) -> list[tuple[int, IntArray, IntArray]]:
    """Rank r's steps for even p: (peer, blocks sent, blocks received)."""
    out = []
    for i, away in enumerate(leaving(p)):
        sign = -1 if r % 2 else 1
        peer = (r + sign * distance(i)) % p
        out.append((peer, np.sort((r + sign * away) % p), np.sort((peer - sign * away) % p)))
    return out


def reduce_scatter(p: int, r: int) -> tuple[Round, ...]:
    """Rank r's rounds for any p; slot x holds the block whose home is rank x."""
    q = p - p % 2  # the ranks that take part
    if q == 0:
        return ()
    if r == q:
        return (Round((Send(r - 1, range(p)),)), Round((), (Recv(r - 1, range(r, p)),)))
    absorbs = q < p and r == q - 1
    body = [Round((), (Recv(q, range(p), Combine.BEFORE),))] if absorbs else []
    for peer, leave, arrive in meetings(q, r):
        out, into = _with_folded(leave, p), _with_folded(arrive, p)
        body.append(exchange(peer, out, into, Combine.BEFORE))
    if absorbs:
        body.append(Round((Send(q, range(q, p)),)))
    return tuple(body)


def allgather(p: int, r: int) -> tuple[Round, ...]:
    """The reduce-scatter reversed."""
    return reverse_rounds(reduce_scatter(p, r))


def allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """The reduce-scatter, and back."""
    p = topology.size

    def part(r: int) -> RankSchedule:
        there = reduce_scatter(p, r)
        return RankSchedule(range(p), there + reverse_rounds(there), range(p))

    return Schedule(p, p, part)


def _with_folded(blocks: IntArray, p: int) -> Slots:
    """``blocks`` (ascending), and block p − 1 wherever p is odd and that of p − 2 is among them."""
    if p % 2 and len(blocks) and blocks[-1] == p - 2:
        return compact(np.append(blocks, p - 1))
    return compact(blocks)
