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

from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import backwards, textbook_reduce_scatter, there_and_back
from topocomm.algorithms.options import Options
from topocomm.arrays import IntArray
from topocomm.schedule import Combine, Recv, Round, Send, Slots, compact, exchange
from topocomm.schedule.bulk import Row, join_rows
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "butterfly_bulk", "distance", "leaving", "meetings", "reduce_scatter", "steps"]

_MASK = 0xAAAAAAAA


def steps(p: int) -> int:
    """Return the number of steps: ⌈lg p⌉."""
    return (p - 1).bit_length()


def _rounds(p: int) -> int:
    """Return the most rounds of any rank of a reduce-scatter."""
    return steps(p - p % 2) + 2 * (p % 2) if p > 1 else 0


def _sent(p: int) -> Fraction:
    """Return the most that any rank sends in a reduce-scatter, in vectors."""
    return Fraction(p - 1 + p % 2, p) if p > 1 else Fraction(0)


def _sent_allgather(p: int) -> Fraction:
    """Return the most that any rank sends in an allgather, in vectors: for odd p the one that hands over everything."""
    return Fraction(2 * p - 2 + steps(p - 1), p) if p % 2 and p > 1 else _sent(p)


def distance(i: int) -> int:
    """Return ρ(i), the distance of step i: 1, −1, 3, −5, 11, …"""
    return (1 - (2 << i) if i % 2 else 1 + (2 << i)) // 3


def _negabinary(x: int) -> int:
    return ((x + _MASK) ^ _MASK) & 0xFFFFFFFF


def _nu(r: int, p: int) -> int:
    """Return ν(r): where rank r stands in the tree of rank 0."""
    k = steps(p)
    words = [_negabinary(-r), _negabinary(p - r)] if r % 2 == 0 else [_negabinary(r), _negabinary(r - p)]
    fitting = [w for w in words if w < 1 << k]
    return min(int(format(w ^ (w >> 1), f"0{k}b")[::-1], 2) for w in fitting)


def _chains(step: dict[int, int]) -> bool:
    """Tell whether each block, once it has moved, leaves its new place in a later step, or is at home."""
    p = len(step)
    return all(c == 0 or step[(distance(i) - c) % p] > i for c, i in step.items())


def _latest(p: int) -> dict[int, int]:
    """Find the step in which a block at each distance leaves if it leaves as late as possible."""
    step = {0: steps(p)}
    for i in range(steps(p) - 1, -1, -1):
        for c in list(step):
            step.setdefault((distance(i) - c) % p, i)
    return step


@lru_cache(maxsize=64)
def leaving(p: int) -> tuple[IntArray, ...]:
    """Find for every step the distances c of the blocks that leave in it; p even, p − 1 of them in all."""
    k = steps(p)
    step = {0: k} | {c: k - _nu(c, p).bit_length() for c in range(1, p)}
    if not _chains(step):
        step = _latest(p)
    return tuple(np.array([c for c in range(1, p) if step[c] == i], np.int64) for i in range(k))


def meetings(p: int, r: int) -> list[tuple[int, IntArray, IntArray]]:
    """List rank r's steps for even p: (peer, blocks sent, blocks received)."""
    out = []
    for i, away in enumerate(leaving(p)):
        sign = -1 if r % 2 else 1
        peer = (r + sign * distance(i)) % p
        out.append((peer, np.sort((r + sign * away) % p), np.sort((peer - sign * away) % p)))
    return out


def reduce_scatter(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's rounds for any p; slot x holds the block whose home is rank x."""
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


def _with_folded(blocks: IntArray, p: int) -> Slots:
    """Add to ``blocks`` (ascending) block p − 1 wherever p is odd and that of p − 2 is among them."""
    if p % 2 and len(blocks) and blocks[-1] == p - 2:
        return compact(np.append(blocks, p - 1))
    return compact(blocks)


def butterfly_bulk(q: int) -> list[Row]:
    """List the steps of all ranks of an even number q of them."""
    r = np.arange(q, dtype=np.int64)
    sign = np.where(r % 2, -1, 1)
    return [Row(r, (r + sign * distance(i)) % q, i, np.full(q, len(away))) for i, away in enumerate(leaving(q))]


def _one(x: int) -> IntArray:
    return np.array([x], np.int64)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    """List the messages of the reduce-scatter; for odd p rank p − 2 takes part for the last one."""
    p = topology.size
    q = p - p % 2
    rows = butterfly_bulk(q) if q else []
    if p > q > 0:
        r = np.arange(q, dtype=np.int64)
        last = (q - 1 - r) * np.where(r % 2, -1, 1) % q  # how far block p − 2 is, with which block p − 1 travels
        for i, away in enumerate(leaving(q)):
            rows[i] = rows[i]._replace(blocks=rows[i].blocks + np.isin(last, away))
        rows = [Row(_one(q), _one(q - 1), -1, _one(p)), *rows, Row(_one(q - 1), _one(q), len(rows), _one(1))]
        rows = [row._replace(round=row.round + 1) for row in rows]
    return join_rows(p, p, rows)


_FORM = Form(textbook_reduce_scatter(reduce_scatter).build, _bulk)

ENTRIES = (
    Algorithm("textbook_bine", "allgather", "Bine trees (negabinary distances) in the order of ranks",
              backwards(_FORM), _rounds, _sent_allgather),
    Algorithm("textbook_bine", "allreduce", "Bine trees (negabinary distances) in the order of ranks, and back",
              there_and_back(_FORM), lambda p: 2 * _rounds(p), lambda p: Fraction(p - 1, p) + _sent_allgather(p)),
    Algorithm("textbook_bine", "reduce_scatter", "Bine trees (negabinary distances) in the order of ranks",
              _FORM, _rounds, _sent),
)  # fmt: skip
