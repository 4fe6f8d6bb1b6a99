"""Bruck's algorithms: the textbook allgather and the all-to-all in any radix, for any number of ranks.

Allgather: in round k rank r sends all it holds (at most 2^k blocks) to r − 2^k; it keeps the block of rank r + o in
slot o and rotates at the end.

    p = 5, rank 0      start     round 0 (from 1)   round 1 (from 2)   round 2 (from 4)
    slots              0....     01...              0123.              01234

The topology-aware allgather of this name is the circulant reduce-scatter reversed (file circulant): the same
⌈lg p⌉ rounds, but the farthest rank first with the fewest blocks.

All-to-all: the block for rank r + o travels along the digits of o in radix q: in the phase of digit j all blocks
whose digit is e hop from r to r + e q^j, and q − 1 such messages overlap. Over a regular machine the offset is
taken apart per level first (a rank is a tuple of places), innermost level first, with a radix per level: a level
of m members taken in radix m goes direct and carries no block twice. ``bruck:radix=64/2`` takes the nearest level in
radix 64 and all levels farther out in radix 2: many small steps where messages are cheap, few where they are not.

    Requires     any p; all-to-all of equal blocks
    Rounds       allgather ⌈lg p⌉; all-to-all Σ over levels ⌈log_q m⌉
    Bytes sent   allgather n (p - 1) / p; all-to-all b · Σ over digits of the blocks with that digit not 0
                 (radix 2, p a power of two: b p / 2 lg p) per rank; n = bytes gathered, b = bytes a block
    Cost         ⌈lg p⌉ α + n (p - 1) / p β, or Σ (q - 1) α + volume β
    Memory       one result (allgather), two results (all-to-all: a block that moved is kept beside the one it replaces)
    Locality     allgather: the last round takes up to half of the result from r + p / 2; all-to-all on a regular
                 machine: with the direct radix each block crosses each level's boundary at most once
    Source       J. Bruck, C.-T. Ho, S. Kipnis, E. Upfal, D. Weathersby: Efficient algorithms for all-to-all
                 communications in multiport message-passing systems, IEEE TPDS 8 (1997)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from topocomm.arrays import IntArray
from topocomm.schedule import Recv, Round, Send, Slots, compact

__all__ = ["Hop", "alltoall", "alltoall_hops", "textbook_allgather"]


def textbook_allgather(p: int, r: int) -> tuple[Round, ...]:
    """Rank r's rounds; slot o holds the block of rank (r + o) mod p."""
    rounds, have = [], 1
    while have < p:
        count = min(have, p - have)
        sends, recvs = Send((r - have) % p, range(count)), Recv((r + have) % p, range(have, have + count))
        rounds.append(Round((sends,), (recvs,)))
        have *= 2
    return tuple(rounds)


class Hop(NamedTuple):
    """One message of the all-to-all, alike on every rank: how far it goes in each digit, from and into which slots."""

    steps: tuple[int, ...]
    leave: Slots
    arrive: Slots


def alltoall_hops(extents: Sequence[int], radices: Sequence[int]) -> tuple[list[list[Hop]], IntArray]:
    """The phases over a machine of ``extents`` (outermost first), and the slot in which each offset ends.

    Offset o (row-major in ``extents``) begins in slot o; a block that hops arrives in the other one of the slots o
    and o + p, so that no message is received over one that is being sent.
    """
    p = int(np.prod(extents))
    digits = np.array(np.unravel_index(np.arange(p), tuple(extents)))
    where = np.arange(p, dtype=np.int64)
    phases = []
    for axis in reversed(range(len(extents))):
        weight = 1
        while weight < extents[axis]:
            digit = digits[axis] // weight % radices[axis]
            phase = []
            for e in range(1, min(radices[axis], extents[axis])):
                offsets = np.flatnonzero(digit == e)
                if len(offsets) == 0:
                    continue
                leave = where[offsets]
                where[offsets] = (leave + p) % (2 * p)
                steps = tuple(e * weight if a == axis else 0 for a in range(len(extents)))
                phase.append(Hop(steps, compact(leave), compact(where[offsets])))
            phases.append(phase)
            weight *= radices[axis]
    return phases, where


def alltoall(extents: Sequence[int], phases: Sequence[Sequence[Hop]], r: int) -> tuple[Round, ...]:
    """Rank r's rounds; slots as in :func:`alltoall_hops`."""
    shape = tuple(extents)
    here = np.unravel_index(r, shape)

    def at(steps: Sequence[int], sign: int) -> int:
        there = [(int(x) + sign * s) % m for x, s, m in zip(here, steps, shape, strict=True)]
        return int(np.ravel_multi_index(there, shape))

    return tuple(
        Round(
            tuple(Send(at(hop.steps, 1), hop.leave) for hop in phase),
            tuple(Recv(at(hop.steps, -1), hop.arrive) for hop in phase),
        )
        for phase in phases
    )
