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

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from topocomm.algorithms.circulant import CIRCULANT
from topocomm.algorithms.counting import lg, share
from topocomm.algorithms.entry import Algorithm, Form
from topocomm.algorithms.forms import WHOLE, backwards, composed, in_rank_order
from topocomm.algorithms.options import Options
from topocomm.arrays import IntArray
from topocomm.schedule import RankSchedule, Recv, Round, Schedule, Send, Slots, compact, relabel
from topocomm.schedule.bulk import Row, join_rows
from topocomm.schedule.reorder import WAYS
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["ENTRIES", "radices_of", "regular_extents"]


# -- allgather -----------------------------------------------------------------------------------------------------


def _textbook_rounds(p: int, r: int) -> tuple[Round, ...]:
    """Make rank r's rounds of the textbook allgather; slot o holds the block of rank (r + o) mod p."""
    rounds, have = [], 1
    while have < p:
        count = min(have, p - have)
        sends, recvs = Send((r - have) % p, range(count)), Recv((r + have) % p, range(have, have + count))
        rounds.append(Round((sends,), (recvs,)))
        have *= 2
    return tuple(rounds)


def _textbook_allgather(topology: Topology, root: int, options: Options) -> Schedule:
    """Make the textbook allgather, whose reordering is the rotation at its end."""
    p = topology.size

    def part(r: int) -> RankSchedule:
        return RankSchedule(WHOLE, _textbook_rounds(p, r), compact((np.arange(p) - r) % p))

    return Schedule(p, p, part, reordering="local" if p > 1 else "none")


def _textbook_allgather_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    p = topology.size
    r = np.arange(p, dtype=np.int64)
    have = [1 << i for i in range(lg(p))]
    return join_rows(p, p, [Row(r, (r - h) % p, i, np.full(p, min(h, p - h))) for i, h in enumerate(have)])


# -- all-to-all ----------------------------------------------------------------------------------------------------


class Hop(NamedTuple):
    """One message of the all-to-all, identical on every rank: how far it goes in each digit, and its slots."""

    steps: tuple[int, ...]
    leave: Slots
    arrive: Slots


def _hops(extents: Sequence[int], radices: Sequence[int]) -> tuple[list[list[Hop]], IntArray]:
    """Make the phases over a machine of ``extents`` (outermost first), and find the slot in which each offset ends.

    Offset o (row-major in ``extents``) begins in slot o; a block that hops arrives in the other one of the slots o
    and o + p, so that no message is received over one that is being sent.
    """
    p = int(np.prod(extents))
    digits = np.array(np.unravel_index(np.arange(p), tuple(extents)))
    slot = np.arange(p, dtype=np.int64)
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
                leave = slot[offsets]
                slot[offsets] = (leave + p) % (2 * p)
                steps = tuple(e * weight if a == axis else 0 for a in range(len(extents)))
                phase.append(Hop(steps, compact(leave), compact(slot[offsets])))
            phases.append(phase)
            weight *= radices[axis]
    return phases, slot


def _rank_rounds(extents: Sequence[int], phases: Sequence[Sequence[Hop]], r: int) -> tuple[Round, ...]:
    """Make rank r's rounds of the all-to-all; slots as in :func:`_hops`."""
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


def regular_extents(topology: Topology) -> tuple[int, ...]:
    """Write the levels of a topology as extents of a product, outermost first, but for levels of unequal places."""
    sizes = [topology.size]
    for places in topology.nesting[1:]:
        members = np.bincount(places)
        if (members == members[0]).all() and members[0] < sizes[-1]:
            sizes.append(int(members[0]))
    return tuple(a // b for a, b in itertools.pairwise(sizes)) or (1,)


def radices_of(extents: tuple[int, ...], radix: tuple[int, ...]) -> list[int]:
    """Return the radix of every level, outermost first, from those given nearest first."""
    return [radix[min(len(extents) - 1 - i, len(radix) - 1)] for i in range(len(extents))]


def _alltoall(default_radix: int) -> Form:
    """Make the all-to-all over the regular levels of the topology. Its reordering is the order of its slots."""

    def phases_of(topology: Topology, options: Options) -> tuple[tuple[int, ...], list[list[Hop]], IntArray]:
        extents = regular_extents(topology)
        return extents, *_hops(extents, radices_of(extents, options.radix or (default_radix,)))

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        p, virtual = topology.size, topology.virtual
        extents, phases, final = phases_of(topology, options)
        digits = np.array(np.unravel_index(virtual, extents))
        modulus = np.array(extents)[:, None]

        def offsets(there: IntArray, here: IntArray) -> IntArray:
            away = tuple((there - here) % modulus)
            return np.asarray(np.ravel_multi_index(away, extents), np.int64)

        def part(r: int) -> RankSchedule:
            here = digits[:, r : r + 1]
            body = relabel(_rank_rounds(extents, phases, int(virtual[r])), topology.order, None)
            return RankSchedule(compact(offsets(digits, here)), body, compact(final[offsets(here, digits)]))

        return Schedule(p, 2 * p, part, reordering="local" if p > 1 else "none")

    def bulk(topology: Topology, root: int, options: Options) -> Transfers:
        p, (extents, phases, _) = topology.size, phases_of(topology, options)
        ranks = np.arange(p)
        digits, modulus = np.array(np.unravel_index(ranks, extents)), np.array(extents)[:, None]
        rows = []
        for i, hop in ((i, hop) for i, phase in enumerate(phases) for hop in phase):
            there = (digits + np.array(hop.steps)[:, None]) % modulus
            target = np.asarray(np.ravel_multi_index(tuple(there), extents), np.int64)
            rows.append(Row(ranks, target, i, np.full(p, len(hop.leave))))
        return join_rows(p, p, rows).relabelled(topology.order)

    return Form(build, bulk)


def _counts(radix: int) -> tuple[Callable[[int], int], Callable[[int], Fraction]]:
    """Return the functions that count rounds and vectors sent of the all-to-all among p equals."""

    def weights(p: int) -> list[int]:
        out = [1]
        while out[-1] * radix < p:
            out.append(out[-1] * radix)
        return out if p > 1 else []

    def sent(p: int) -> Fraction:
        return Fraction(sum(sum(1 for o in range(p) if o // w % radix) for w in weights(p)), p)

    return lambda p: len(weights(p)), sent


ENTRIES = (
    Algorithm("bruck", "allgather", "far first with one block; circulant reversed on every level",
              backwards(composed(CIRCULANT)), lg, share, ways=WAYS),
    Algorithm("textbook_bruck", "allgather", "from r + 1, r + 2, r + 4, …, then a rotation",
              Form(_textbook_allgather, _textbook_allgather_bulk), lg, share, ways=("local",)),
    Algorithm("bruck", "alltoall", "few messages: along the digits of the offset, level by level, radix 8",
              _alltoall(8), *_counts(8), ways=("local",), radix=True, radices=True),
    Algorithm("textbook_bruck", "alltoall", "few messages: along the bits of the offset, in the order of ranks",
              in_rank_order(_alltoall(2)), *_counts(2), ways=("local",), radix=True),
)  # fmt: skip
