"""The data reordering: one permutation between the order of ranks in a buffer and the slots of an algorithm.

An algorithm over virtual ranks leaves the block of rank r in slot ``slot_of_rank[r]``: the topology order of the
ranks composed with the algorithm's near-first order. The step that puts things right is realised in one of these ways:

``none``      the permutation is the identity, or it cancels (allreduce, bcast, reduce, barrier)
``local``     one pass over memory, before or after the messages
``exchange``  one extra message of one block: each rank works for another rank's block, in natural slots
``direct``    the messages themselves carry the blocks of their final places, which need not be contiguous
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from topocomm.arrays import IntArray
from topocomm.schedule.rounds import (
    Item,
    RankSchedule,
    Recv,
    Round,
    Schedule,
    Send,
    Slots,
    compact,
    refine,
    relabel,
)
from topocomm.topology import Topology

__all__ = ["WAYS", "inverse", "is_identity", "reduce_scatter", "resolve"]

WAYS = ("none", "local", "exchange", "direct")

Rounds: TypeAlias = Callable[[int], tuple[Item, ...]]
"""The rounds of a virtual rank: peers virtual ranks, slots those of the algorithm."""


def is_identity(permutation: IntArray) -> bool:
    """Whether a permutation leaves everything where it is."""
    return bool((permutation == np.arange(len(permutation))).all())


def inverse(permutation: IntArray) -> IntArray:
    """Return the permutation that undoes the given one."""
    out = np.empty_like(permutation)
    out[permutation] = np.arange(len(permutation))
    return out


def resolve(way: str | None, permutation: IntArray) -> str:
    """Return the way in which ``permutation`` is realised: ``none`` where it is the identity, else the one asked for.

    Unasked it is ``local``: it alone adds no bytes between places and leaves messages contiguous.
    """
    return "none" if is_identity(permutation) else way or "local"


def _one(slot: int, pieces: int) -> Slots:
    return refine(range(int(slot), int(slot) + 1), pieces)


def reduce_scatter(topology: Topology, home: IntArray, rounds: Rounds, way: str | None, pieces: int = 1) -> Schedule:
    """Make the reduce-scatter in which virtual rank v ends with the block in slot ``home[v]``.

    ``way``: how its reordering is realised (None: ``local``). Where blocks are cut into ``pieces`` slots each, ``home``
    counts blocks and ``rounds`` has slots. Reversed in time it is an allgather.
    """
    slot_of_rank = home[topology.virtual]
    rank_of_slot = inverse(slot_of_rank)
    everything, way = range(pieces * topology.size), resolve(way, slot_of_rank)

    def body(r: int, slots: IntArray | None = None) -> tuple[Item, ...]:
        return relabel(rounds(int(topology.virtual[r])), topology.order, slots)

    def local(r: int) -> RankSchedule:
        return RankSchedule(refine(compact(slot_of_rank), pieces), body(r), _one(slot_of_rank[r], pieces))

    def direct(r: int) -> RankSchedule:
        return RankSchedule(everything, body(r, np.asarray(refine(rank_of_slot, pieces))), _one(r, pieces))

    def swapped(r: int) -> RankSchedule:
        take_home = _take_home(r, slot_of_rank, rank_of_slot, pieces)
        return RankSchedule(everything, body(r) + take_home, _one(r, pieces))

    part = {"none": local, "local": local, "direct": direct, "exchange": swapped}[way]
    return Schedule(topology.size, pieces * topology.size, part, reordering=way, pieces=pieces)


def _take_home(r: int, slot_of_rank: IntArray, rank_of_slot: IntArray, pieces: int) -> tuple[Round, ...]:
    """Let rank r give the block that it worked for to the rank of that slot, and get its own, into natural slot r."""
    works, worker = int(slot_of_rank[r]), int(rank_of_slot[r])
    if works == r:
        return ()
    return (Round((Send(works, _one(works, pieces)),), (Recv(worker, _one(r, pieces)),)),)
