"""Combinators: from an algorithm over equals, or from another form, to the forms of collectives on a topology.

The topology-aware forms are composed over the levels of the topology; the textbook forms count ranks in the order of
the communicator. A form (:class:`topocomm.algorithms.entry.Form`) has two views, and combinators turn both alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np

from topocomm.algorithms.entry import Form
from topocomm.algorithms.options import Options
from topocomm.arrays import IntArray
from topocomm.schedule import Item, RankSchedule, Schedule, Slots, relabel, reverse_rounds
from topocomm.schedule.compose import Flat, FlatRounds, reduce_scatter_rounds
from topocomm.schedule.composed import composed_reduce_scatter
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.reorder import reduce_scatter
from topocomm.schedule.transfers import Transfers, chain
from topocomm.topology import Topology

__all__ = [
    "NONE",
    "WHOLE",
    "RankRounds",
    "all_slots",
    "at_root",
    "backwards",
    "by_virtual_rank",
    "chain_order",
    "composed",
    "in_rank_order",
    "one",
    "rank_order",
    "textbook_allgather",
    "textbook_reduce_scatter",
    "there_and_back",
]

NONE = range(0)
WHOLE = range(1)
"""The slots of a vector that is not cut into blocks."""

RankRounds: TypeAlias = Callable[[int], tuple[Item, ...]]
"""The rounds of one (virtual) rank."""
View = TypeVar("View", Schedule, Transfers)


def one(x: int) -> range:
    """Return slot x alone."""
    return range(x, x + 1)


def at_root(slots: Slots, r: int, root: int) -> Slots:
    """Return ``slots`` at the root, none elsewhere."""
    return slots if r == root else NONE


def by_virtual_rank(topology: Topology, rounds: RankRounds) -> RankRounds:
    """Make rounds of a rank from rounds of its virtual rank."""
    return lambda r: relabel(rounds(int(topology.virtual[r])), topology.order, None)


def rank_order(topology: Topology) -> Topology:
    """Return the same ranks as equals, in the order of the communicator."""
    return Topology.flat(topology.size)


def chain_order(topology: Topology, root: int) -> IntArray:
    """Put the ranks in the order of a chain from ``root``: those that share more places with it come first."""
    top = int(topology.virtual[root])
    shared = sum((places == places[top]).astype(np.int64) for places in topology.nesting)
    return topology.order[np.lexsort((np.arange(topology.size), -np.asarray(shared)))]


def all_slots(topology: Topology, nslots: int, rounds: RankRounds, in_order: bool = False) -> Schedule:
    """Make the schedule in which every rank begins and ends with the whole vector, in ``nslots`` slots."""
    everything = range(nslots)
    return Schedule(topology.size, nslots, lambda r: RankSchedule(everything, rounds(r), everything), in_order=in_order)


# -- from an algorithm over equals ---------------------------------------------------------------------------------


def composed(flat: Flat) -> Form:
    """Compose the reduce-scatter ``flat`` over the levels of the topology."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        layout = near_first_layout(topology)
        return reduce_scatter(topology, layout.home, lambda v: reduce_scatter_rounds(layout, flat, v), options.way)

    def bulk(topology: Topology, root: int, options: Options) -> Transfers:
        return composed_reduce_scatter(near_first_layout(topology), flat).relabelled(topology.order)

    return Form(build, bulk)


def textbook_allgather(rounds: FlatRounds) -> Form:
    """Run an allgather over equals in the order of ranks; slot x holds the block of rank x."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        p = topology.size
        return Schedule(p, p, lambda r: RankSchedule(one(r), rounds(p, r), range(p)))

    return Form(build)


def textbook_reduce_scatter(rounds: FlatRounds) -> Form:
    """Run a reduce-scatter over equals in the order of ranks; slot x holds the block for rank x."""

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        p = topology.size
        return Schedule(p, p, lambda r: RankSchedule(range(p), rounds(p, r), one(r)))

    return Form(build)


# -- from another form ---------------------------------------------------------------------------------------------


def in_rank_order(form: Form) -> Form:
    """Make the textbook form of a topology-aware one: the same over equals in the order of ranks."""

    def view(make: Callable[[Topology, int, Options], View]) -> Callable[[Topology, int, Options], View]:
        return lambda topology, root, options: make(rank_order(topology), root, options)

    return Form(view(form.build), view(form.bulk) if form.bulk else None)


def backwards(form: Form) -> Form:
    """Reverse in time: a reduce-scatter becomes an allgather, a reduce a broadcast, a gather a scatter."""
    forth = form.bulk

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        there = form.build(topology, root, options)

        def part(r: int) -> RankSchedule:
            back = there.part(r)
            return RankSchedule(back.store, reverse_rounds(back.items), back.load)

        return replace(there, part=part, in_order=False)

    def bulk(topology: Topology, root: int, options: Options) -> Transfers:
        assert forth is not None
        return forth(topology, root, options).reversed()

    return Form(build, bulk if forth else None)


def there_and_back(form: Form) -> Form:
    """Make an allreduce from a reduce-scatter: the same again backwards. No reordering is left over."""
    forth = form.bulk

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        there = form.build(topology, root, options)

        def rounds(r: int) -> tuple[Item, ...]:
            items = there.part(r).items
            return items + reverse_rounds(items)

        return all_slots(topology, there.nslots, rounds)

    def bulk(topology: Topology, root: int, options: Options) -> Transfers:
        assert forth is not None
        there = forth(topology, root, options)
        return chain(there, there.reversed())

    return Form(build, bulk if forth else None)
