"""What each directed pair of groups carries, without making the schedules of a thousand ranks.

A topology-aware algorithm moves the shares of whole groups: its traffic follows from the sizes of the groups and the
algorithm among them. A flat algorithm meets the same distances on every rank: its traffic is a count of pairs of ranks
a round. ``tests/unit/test_group_traffic.py`` compares both with the schedules themselves.

Every function returns (blocks, vector): blocks from group a (row) to group b (column), and what one vector has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from topocomm.algorithms import circulant, direct
from topocomm.algorithms.folding import Fold
from topocomm.algorithms.recursive_halving import NEAR_FIRST
from topocomm.algorithms.rivals import bine
from topocomm.arrays import IntArray
from topocomm.schedule import expand
from topocomm.schedule.compose import Flat

__all__ = ["ALGORITHMS", "COLLECTIVES", "least_busiest", "traffic"]

COLLECTIVES = ("allgather", "reduce_scatter", "allreduce")
Pairs: TypeAlias = tuple[IntArray, int]
"""Traffic of a reduce-scatter; an allgather is its reverse and an allreduce both."""


def _counted(rounds: Sequence[tuple[IntArray, IntArray, IntArray | int]], group: IntArray) -> IntArray:
    """Sum over rounds of (sending ranks, receiving ranks, blocks)."""
    count = int(group.max()) + 1
    out = np.zeros(count * count, np.int64)
    for source, target, blocks in rounds:
        weights = np.broadcast_to(blocks, source.shape)
        out += np.bincount(group[source] * count + group[target], weights, count * count).astype(np.int64)
    return out.reshape(count, count)


def composed(flat: Flat) -> Callable[[IntArray], Pairs]:
    """The reduce-scatter ``flat`` composed over levels: between groups, blocks are whole shares of groups."""

    def pairs(group: IntArray) -> Pairs:
        sizes = np.bincount(group)
        out = np.zeros((len(sizes), len(sizes)), np.int64)
        for here in range(len(sizes)):
            for rnd in expand(flat.rounds(len(sizes), here)):
                for s in rnd.sends:
                    out[here, s.peer] += sizes[np.asarray(s.slots)].sum()
        return out, int(sizes.sum())

    return pairs


def direct_exchange(group: IntArray) -> Pairs:
    """``direct``: what is collected elsewhere, and what collectors hand on."""
    sizes = np.bincount(group)
    sizes = direct.pieces(sizes) * sizes
    return direct.loads(direct.shares(sizes)).T.copy(), int(sizes.sum())


def direct_allreduce(group: IntArray) -> Pairs:
    """``direct``, allreduce: every group collects the same share; the way there only."""
    sizes = np.bincount(group)
    slots = direct.allreduce_pieces(sizes) * int(sizes.sum())
    collected = np.bincount(np.arange(slots) % len(sizes), minlength=len(sizes))
    out = np.tile(collected, (len(sizes), 1))
    np.fill_diagonal(out, 0)
    return out, slots


def near_first(group: IntArray) -> Pairs:
    """Near-first Rabenseifner (halving, circulant for other p) in the order of ranks."""
    p = len(group)
    ranks = np.arange(p, dtype=np.int64)
    if p & (p - 1):
        rounds = [(ranks, (ranks + s) % p, len(leave)) for s, leave, _ in circulant.decompose(p)]
    else:
        rounds = [(ranks, ranks ^ (1 << i), p >> (i + 1)) for i in range(p.bit_length() - 1)]
    return _counted(rounds, group), p


def far_first(group: IntArray) -> Pairs:
    """Far-first recursive halving in the order of ranks; other p than powers of two fold."""
    p, fold = len(group), Fold(len(group))
    new = np.arange(fold.q)
    old = np.where(new < fold.excess, 2 * new + 1, new + fold.excess)
    out, into = np.arange(0, 2 * fold.excess, 2), np.arange(1, 2 * fold.excess, 2)
    rounds: list[tuple[IntArray, IntArray, IntArray | int]] = [(out, into, p), (into, out, 1)]
    width = fold.q
    while width > 1:
        half = width // 2
        other = (new // half ^ 1) * half  # where the half begins that leaves
        blocks = half + np.minimum(other + half, fold.excess) - np.minimum(other, fold.excess)
        rounds.append((old, old[new ^ half], blocks))
        width = half
    return _counted(rounds, group), p


def bine_trees(group: IntArray) -> Pairs:
    """Bine in the order of ranks; odd p fold the last rank."""
    p = len(group)
    q = p - p % 2
    ranks = np.arange(q)
    sign = np.where(ranks % 2, -1, 1)
    rounds: list[tuple[IntArray, IntArray, IntArray | int]] = []
    for i, away in enumerate(bine.leaving(q)):
        blocks = np.full(q, len(away))
        if p > q:  # block p − 1 travels with that of p − 2
            blocks += np.isin((q - 1 - ranks) * sign % q, away)
        rounds.append((ranks, (ranks + sign * bine.distance(i)) % q, blocks))
    if p > q:
        rounds += [(np.array([q]), np.array([q - 1]), p), (np.array([q - 1]), np.array([q]), 1)]
    return _counted(rounds, group), p


ALGORITHMS: Mapping[str, Callable[[IntArray], Pairs]] = MappingProxyType(
    {
        "direct": direct_exchange,
        "halving or circulant": composed(NEAR_FIRST),
        "near-first Rabenseifner": near_first,
        "Bine": bine_trees,
        "far-first halving": far_first,
    }
)
"""The first two are topology-aware, the others count ranks in their order."""


def traffic(collective: str, algorithm: str, group: IntArray) -> Pairs:
    """Blocks on every directed pair of groups; ``group`` is that of every rank, numbered by first appearance."""
    if (collective, algorithm) == ("allreduce", "direct"):
        there, vector = direct_allreduce(group)
    else:
        there, vector = ALGORITHMS[algorithm](group)
    np.fill_diagonal(there, 0)
    back = there.T
    return {"reduce_scatter": there, "allgather": back, "allreduce": there + back}[collective], vector


def least_busiest(collective: str, group: IntArray) -> float:
    """The least that the busiest directed pair of groups can carry, in vectors.

    Allreduce 2 / G. Allgather and reduce-scatter: the smallest group must get (give) everything but its own share
    over G − 1 pairs.
    """
    sizes = np.bincount(group)
    if collective == "allreduce":
        return 2 / len(sizes)
    return float(1 - sizes.min() / sizes.sum()) / (len(sizes) - 1)
