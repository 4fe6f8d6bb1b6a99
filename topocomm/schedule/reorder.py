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
from topocomm.schedule.rounds import RankSchedule, Recv, Round, Send, Slots, compact, refine, relabel, reverse_rounds
from topocomm.topology import Topology

__all__ = ["WAYS", "allgather", "inverse", "is_identity", "reduce_scatter", "resolve"]

WAYS = ("none", "local", "exchange", "direct")

Rounds: TypeAlias = Callable[[int], tuple[Round, ...]]
"""The rounds of a virtual rank: peers virtual ranks, slots those of the algorithm."""
Part: TypeAlias = Callable[[int], RankSchedule]


def is_identity(permutation: IntArray) -> bool:
    """Whether a permutation leaves everything where it is."""
    return bool((permutation == np.arange(len(permutation))).all())


def inverse(permutation: IntArray) -> IntArray:
    """The permutation that undoes the given one."""
    out = np.empty_like(permutation)
    out[permutation] = np.arange(len(permutation))
    return out


def resolve(way: str | None, permutation: IntArray) -> str:
    """The way in which ``permutation`` is realised: ``none`` where it is the identity, else the one asked for.

    Unasked it is ``local``: it alone adds no bytes between places and leaves messages contiguous.
    """
    return "none" if is_identity(permutation) else way or "local"


def _one(slot: int, pieces: int) -> Slots:
    return refine(range(int(slot), int(slot) + 1), pieces)


def allgather(topology: Topology, home: IntArray, rounds: Rounds, way: str, pieces: int = 1) -> Part:
    """The parts of an allgather in which virtual rank v begins with its block in slot ``home[v]``.

    Where blocks are cut into ``pieces``, ``home`` counts blocks and ``rounds`` slots."""
    slot_of_rank = home[topology.virtual]
    rank_of_slot = inverse(slot_of_rank)
    everything = range(pieces * topology.size)

    def local(r: int) -> RankSchedule:
        body = relabel(rounds(int(topology.virtual[r])), topology.order, None)
        return RankSchedule(_one(slot_of_rank[r], pieces), body, refine(compact(slot_of_rank), pieces))

    def direct(r: int) -> RankSchedule:
        body = relabel(rounds(int(topology.virtual[r])), topology.order, np.asarray(refine(rank_of_slot, pieces)))
        return RankSchedule(_one(r, pieces), body, everything)

    def swapped(r: int) -> RankSchedule:
        body = relabel(rounds(int(topology.virtual[r])), topology.order, None)
        return RankSchedule(_one(r, pieces), _hand_out(r, slot_of_rank, rank_of_slot, pieces) + body, everything)

    return {"none": local, "local": local, "direct": direct, "exchange": swapped}[way]


def reduce_scatter(topology: Topology, home: IntArray, rounds: Rounds, way: str, pieces: int = 1) -> Part:
    """The parts of a reduce-scatter in which virtual rank v ends with the block in slot ``home[v]``; pieces too."""
    slot_of_rank = home[topology.virtual]
    rank_of_slot = inverse(slot_of_rank)
    everything = range(pieces * topology.size)

    def local(r: int) -> RankSchedule:
        body = relabel(rounds(int(topology.virtual[r])), topology.order, None)
        return RankSchedule(refine(compact(slot_of_rank), pieces), body, _one(slot_of_rank[r], pieces))

    def direct(r: int) -> RankSchedule:
        body = relabel(rounds(int(topology.virtual[r])), topology.order, np.asarray(refine(rank_of_slot, pieces)))
        return RankSchedule(everything, body, _one(r, pieces))

    def swapped(r: int) -> RankSchedule:
        body = relabel(rounds(int(topology.virtual[r])), topology.order, None)
        take_home = reverse_rounds(_hand_out(r, slot_of_rank, rank_of_slot, pieces))
        return RankSchedule(everything, body + take_home, _one(r, pieces))

    return {"none": local, "local": local, "direct": direct, "exchange": swapped}[way]


def _hand_out(r: int, slot_of_rank: IntArray, rank_of_slot: IntArray, pieces: int) -> tuple[Round, ...]:
    """Rank r sends its own block, in natural slot r, to the rank that works in that slot, and gets the block that it
    works for itself. Reversed it takes the finished blocks home."""
    works, worker = int(slot_of_rank[r]), int(rank_of_slot[r])
    if works == r:
        return ()
    return (Round((Send(worker, _one(r, pieces)),), (Recv(works, _one(works, pieces)),)),)
