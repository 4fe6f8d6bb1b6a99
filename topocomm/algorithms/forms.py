"""Builders: from an algorithm over equals to the schedule of a collective on a topology.

A builder is a function ``(topology, root, options) → Schedule``; most functions here return one. The topology-aware
forms are composed over the levels of the topology, the textbook forms count ranks in the order of the communicator.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from topocomm.algorithms import (
    binomial,
    bruck,
    dissemination,
    pairwise,
    rabenseifner,
    recursive_doubling,
    ring,
)
from topocomm.arrays import IntArray
from topocomm.schedule import RankSchedule, Round, Schedule, Slots, compact, relabel, reorder, reverse_rounds
from topocomm.schedule.compose import Flat, reduce_scatter_rounds
from topocomm.schedule.layout import Layout, near_first_layout
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

NONE = range(0)
WHOLE = range(1)
"""A vector that is not cut into blocks."""


@dataclass(frozen=True)
class Options:
    """What may follow an algorithm's name: the way of its reordering, radices (nearest level first, the last for all
    levels farther out), the most blocks of a message, the pattern on every level, the number of segments; and whether
    operands must be combined in the order of ranks."""

    way: str | None = None
    radix: tuple[int, ...] = ()
    aggregate: int | None = None
    levels: str | None = None
    segments: int | None = None
    ordered: bool = False


Builder: TypeAlias = Callable[[Topology, int, Options], Schedule]
RankRounds: TypeAlias = Callable[[int], tuple[Round, ...]]
"""The rounds of one (virtual) rank."""


def one(x: int) -> range:
    return range(x, x + 1)


def by_virtual_rank(topology: Topology, rounds: RankRounds) -> RankRounds:
    """Rounds of a rank from rounds of its virtual rank."""
    return lambda r: relabel(rounds(int(topology.virtual[r])), topology.order, None)


def rank_order(topology: Topology) -> Topology:
    """The same ranks as equals, in the order of the communicator."""
    return Topology.flat(topology.size)


# -- allgather and reduce_scatter ----------------------------------------------------------------------------------


def composed_allgather(flat: Flat) -> Builder:
    """The reduce-scatter ``flat``, composed over levels and reversed."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        layout = near_first_layout(topology)
        way = reorder.resolve(options.way, layout.home[topology.virtual])

        def rounds(v: int) -> tuple[Round, ...]:
            return reverse_rounds(reduce_scatter_rounds(layout, flat, v))

        part = reorder.allgather(topology, layout.home, rounds, way)
        return Schedule(topology.size, topology.size, part, reordering=way)

    return build


def composed_reduce_scatter(flat: Flat) -> Builder:
    """The reduce-scatter ``flat``, composed over levels."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        layout = near_first_layout(topology)
        way = reorder.resolve(options.way, layout.home[topology.virtual])
        part = reorder.reduce_scatter(topology, layout.home, lambda v: reduce_scatter_rounds(layout, flat, v), way)
        return Schedule(topology.size, topology.size, part, reordering=way)

    return build


def ring_allgather(topology: Topology, root: int, options: Options) -> Schedule:
    """A ring in topology order."""
    p = topology.size
    way = reorder.resolve(options.way, topology.virtual)
    part = reorder.allgather(topology, np.arange(p), lambda v: reverse_rounds(ring.reduce_scatter(p, v)), way)
    return Schedule(p, p, part, reordering=way)


def ring_reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """A ring in topology order."""
    p = topology.size
    way = reorder.resolve(options.way, topology.virtual)
    part = reorder.reduce_scatter(topology, np.arange(p), lambda v: ring.reduce_scatter(p, v), way)
    return Schedule(p, p, part, reordering=way)


def textbook_allgather(rounds: Flat) -> Builder:
    """An allgather over equals in the order of ranks; slot x holds the block of rank x."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        p = topology.size
        return Schedule(p, p, lambda r: RankSchedule(one(r), rounds(p, r), range(p)))

    return build


def textbook_reduce_scatter(rounds: Flat) -> Builder:
    """A reduce-scatter over equals in the order of ranks; slot x holds the block for rank x."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        p = topology.size
        return Schedule(p, p, lambda r: RankSchedule(range(p), rounds(p, r), one(r)))

    return build


def textbook_bruck_allgather(topology: Topology, root: int, options: Options) -> Schedule:
    """Bruck's allgather: the rotation at its end is its reordering."""
    p = topology.size

    def part(r: int) -> RankSchedule:
        return RankSchedule(WHOLE, bruck.textbook_allgather(p, r), compact((np.arange(p) - r) % p))

    return Schedule(p, p, part, reordering="local" if p > 1 else "none")


# -- allreduce and barrier -----------------------------------------------------------------------------------------


def _all_slots(topology: Topology, nslots: int, rounds: RankRounds, in_order: bool = False) -> Schedule:
    everything = range(nslots)
    return Schedule(topology.size, nslots, lambda r: RankSchedule(everything, rounds(r), everything), in_order=in_order)


def composed_allreduce(flat: Flat) -> Builder:
    """The reduce-scatter ``flat``, composed over levels, and the same backwards."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        layout = near_first_layout(topology)

        def rounds(v: int) -> tuple[Round, ...]:
            there = reduce_scatter_rounds(layout, flat, v)
            return there + reverse_rounds(there)

        return _all_slots(topology, topology.size, by_virtual_rank(topology, rounds))

    return build


def ring_allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """A ring in topology order, around twice."""
    p = topology.size
    return _all_slots(topology, p, by_virtual_rank(topology, lambda v: _there_and_back(ring.reduce_scatter(p, v))))


def _there_and_back(rounds: tuple[Round, ...]) -> tuple[Round, ...]:
    return rounds + reverse_rounds(rounds)


def textbook_recursive_doubling_allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Recursive doubling in the order of ranks."""
    p = topology.size
    return _all_slots(topology, 1, lambda r: recursive_doubling.allreduce(p, r), in_order=True)


def textbook_rabenseifner_allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Rabenseifner's algorithm in the order of ranks."""
    p = topology.size
    nslots = rabenseifner.textbook_slots(p)
    return _all_slots(topology, nslots, lambda r: rabenseifner.textbook_allreduce(p, r), in_order=True)


def _among_leaders(layout: Layout, v: int, flat: Flat, slots: Slots) -> tuple[Round, ...]:
    """Collect at the leaders of the outermost places, run ``flat`` among these, and hand the result down again."""
    tree = Tree(layout, outermost=1)
    up = binomial.reduce(tree, v, slots)
    middle: tuple[Round, ...] = ()
    if layout.depth and tree.parent(v) is None:
        leaders = layout.first[1][:-1]
        middle = relabel(flat(len(leaders), int(layout.places[1][v])), leaders, None)
    return up + middle + reverse_rounds(up)


def leaders_allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Recursive doubling among the leaders of the outermost places, binomial trees inside."""
    layout = near_first_layout(topology)

    def rounds(v: int) -> tuple[Round, ...]:
        return _among_leaders(layout, v, recursive_doubling.allreduce, WHOLE)

    return _all_slots(topology, 1, by_virtual_rank(topology, rounds), in_order=topology.is_sorted)


def leaders_barrier(topology: Topology, root: int, options: Options) -> Schedule:
    """Dissemination among the leaders of the outermost places, binomial trees inside."""
    layout = near_first_layout(topology)
    return _all_slots(
        topology, 0, by_virtual_rank(topology, lambda v: _among_leaders(layout, v, dissemination.barrier, NONE))
    )


def textbook_barrier(topology: Topology, root: int, options: Options) -> Schedule:
    """Dissemination in the order of ranks."""
    p = topology.size
    return _all_slots(topology, 0, lambda r: dissemination.barrier(p, r))


# -- all-to-all ----------------------------------------------------------------------------------------------------


def pairwise_alltoall(topology: Topology, root: int, options: Options) -> Schedule:
    """Every block straight to its destination, one after the other, near ones first in topology order."""
    p, order = topology.size, topology.order
    slots = np.concatenate((order, p + order))

    def part(r: int) -> RankSchedule:
        body = relabel(pairwise.alltoall(p, int(topology.virtual[r])), order, slots)
        return RankSchedule(range(p), body, range(p, 2 * p))

    return Schedule(p, 2 * p, part)


def scattered_alltoall(topology: Topology, root: int, options: Options) -> Schedule:
    """The same, many at a time."""
    one_by_one = pairwise_alltoall(topology, root, options)

    def part(r: int) -> RankSchedule:
        alone = one_by_one.part(r)
        return RankSchedule(alone.load, pairwise.scattered(alone.rounds), alone.store)

    return Schedule(one_by_one.size, one_by_one.nslots, part)


def regular_extents(topology: Topology) -> tuple[int, ...]:
    """The levels of a topology as extents of a product, outermost first; levels with unequal places are left out."""
    sizes = [topology.size]
    for places in topology.nesting[1:]:
        members = np.bincount(places)
        if (members == members[0]).all() and members[0] < sizes[-1]:
            sizes.append(int(members[0]))
    return tuple(a // b for a, b in itertools.pairwise(sizes)) or (1,)


def radices_of(extents: tuple[int, ...], radix: tuple[int, ...]) -> list[int]:
    """The radix of every level, outermost first, from those given nearest first."""
    return [radix[min(len(extents) - 1 - i, len(radix) - 1)] for i in range(len(extents))]


def bruck_alltoall(default_radix: int) -> Builder:
    """Bruck's all-to-all over the regular levels of the topology. Its reordering is the order of its slots."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        p, virtual = topology.size, topology.virtual
        extents = regular_extents(topology)
        phases, final = bruck.alltoall_hops(extents, radices_of(extents, options.radix or (default_radix,)))
        digits = np.array(np.unravel_index(virtual, extents))
        modulus = np.array(extents)[:, None]

        def offsets(there: IntArray, here: IntArray) -> IntArray:
            away = tuple((there - here) % modulus)
            return np.asarray(np.ravel_multi_index(away, extents), np.int64)

        def part(r: int) -> RankSchedule:
            here = digits[:, r : r + 1]
            body = relabel(bruck.alltoall(extents, phases, int(virtual[r])), topology.order, None)
            return RankSchedule(compact(offsets(digits, here)), body, compact(final[offsets(here, digits)]))

        return Schedule(p, 2 * p, part, reordering="local" if p > 1 else "none")

    return build


def in_rank_order(builder: Builder) -> Builder:
    """The textbook form of a tree algorithm: the same over equals in the order of ranks."""
    return lambda topology, root, options: builder(rank_order(topology), root, options)
