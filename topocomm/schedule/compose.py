"""Hierarchical composition: an algorithm over equals becomes one over the nested places of a machine.

An algorithm file knows m children and m blocks, child c the home of block c. Here the children are places, every
block is the share of the vector whose home lies in that place, and each message between two children becomes the
messages between the ranks that own the same slots in them (:mod:`topocomm.schedule.layout`). Reductions go from the
innermost level out, so that most data travels between the nearest ranks; gathering is the same in reverse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from topocomm.arrays import IntArray
from topocomm.schedule.layout import Layout
from topocomm.schedule.rounds import Combine, Item, Recv, Round, Send, Slots, compact, expand

__all__ = ["Flat", "FlatRounds", "around", "by_owner", "merge_stage", "reduce_scatter_rounds"]

FlatRounds: TypeAlias = Callable[[int, int], tuple[Item, ...]]
"""``rounds(m, c)``: the rounds of rank c among m equals; slot x holds the block of rank x."""


def around(m: int, numbers: IntArray, child: IntArray) -> IntArray:
    """Turn the numbers of ranks that child 0 deals with into those that ``child`` does, around the circle of m."""
    return np.asarray((numbers + child) % m, np.int64)


@dataclass(frozen=True)
class Flat:
    """A reduce-scatter over m equals that can be composed over places.

    ``rounds(m, c)`` are the rounds of child c, whose slots are the children that the blocks are for. All children do
    the same: ``turn(m, numbers, c)`` gives for the children that child 0 deals with those that child c does.
    """

    rounds: FlatRounds
    turn: Callable[[int, IntArray, IntArray], IntArray] = around


def _members(mask: IntArray, homes: Slots, size: int) -> IntArray:
    """Find the positions in ``mask`` (home child of each owned slot) of the children in ``homes``."""
    if len(homes) == 1:
        return np.nonzero(mask == homes[0])[0]
    wanted = np.zeros(size, bool)
    if isinstance(homes, range):
        wanted[homes.start : homes.stop : homes.step] = True
    else:
        wanted[homes] = True
    return wanted[mask].nonzero()[0]


def by_owner(layout: Layout, d: int, place: int, slots: IntArray, pieces: int = 1) -> list[tuple[int, Slots]]:
    """Split ``slots`` (ascending) by the rank that owns them in ``place``: (virtual rank, its slots).

    ``pieces`` are the slots that each slot of the layout is cut into.
    """
    if len(slots) == 0:
        return []
    first, end = layout.first[d][place : place + 2].tolist()
    if end - first == 1:
        return [(int(layout.by_slot[d][first]), compact(slots))]
    owners = layout.owners(d, place, slots if pieces == 1 else slots // pieces)
    cuts = [0, *((owners[1:] != owners[:-1]).nonzero()[0] + 1).tolist(), len(slots)]
    return [(int(owners[a]), compact(slots[a:b])) for a, b in pairwise(cuts)]


def merge_stage(layout: Layout, flat: Flat, v: int, d: int) -> list[Round]:
    """Make virtual rank v's rounds while the places of depth d + 1 inside v's place of depth d reduce together."""
    place, child = int(layout.places[d][v]), int(layout.places[d + 1][v])
    children = layout.children(d, place)
    if len(children) == 1:
        return []
    mine = np.arange(layout.start[d + 1][v], layout.stop[d + 1][v])
    home = layout.places[d + 1][layout.owners(d, place, mine)] - children.start
    rounds = []
    for flat_round in expand(flat.rounds(len(children), child - children.start)):
        sends = [
            Send(owner, slots)
            for s in flat_round.sends
            for owner, slots in by_owner(
                layout, d + 1, children.start + s.peer, mine[_members(home, s.slots, len(children))]
            )
        ]
        recvs = [
            Recv(owner, slots, Combine.BEFORE)
            for r in flat_round.recvs
            for owner, slots in by_owner(
                layout, d + 1, children.start + r.peer, mine[_members(home, r.slots, len(children))]
            )
        ]
        rounds.append(Round(tuple(sends), tuple(recvs)))
    return rounds


def reduce_scatter_rounds(layout: Layout, flat: Flat, v: int, outermost: int = 0) -> tuple[Round, ...]:
    """Make virtual rank v's rounds of a reduce-scatter from the innermost level out to depth ``outermost``.

    Peers are virtual ranks, slots are home slots of the layout. Reversed, it is an allgather.
    """
    rounds: list[Round] = []
    for d in range(layout.depth - 1, outermost - 1, -1):
        rounds += merge_stage(layout, flat, v, d)
    return tuple(rounds)
