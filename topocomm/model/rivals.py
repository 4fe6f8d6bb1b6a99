"""The transfers of published rivals and of the direct exchange, for all ranks at once (:mod:`topocomm.model.bulk`)."""

from __future__ import annotations

import numpy as np

from topocomm.algorithms import bine, direct, multilane, pat, rabenseifner, recexch, sparbit, swing
from topocomm.algorithms.direct import collectors
from topocomm.arrays import IntArray
from topocomm.model.composed import composed_reduce_scatter
from topocomm.model.listing import make, tree_up
from topocomm.schedule import RankSchedule, Schedule
from topocomm.schedule.layout import Layout, near_first_layout
from topocomm.schedule.transfers import Transfers, chain, list_transfers
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = [
    "bine_reduce_scatter",
    "direct_allreduce",
    "direct_reduce_scatter",
    "multilane_bcast",
    "pat_allgather",
    "recexch_reduce_scatter",
    "sparbit_allgather",
    "swing_reduce_scatter",
]

_Row = tuple[IntArray, IntArray, int, IntArray]
"""Senders, receivers, round, blocks."""


def _joined(p: int, vector: int, rows: list[_Row]) -> Transfers:
    nothing = np.zeros(0, np.int64)
    source = np.concatenate([nothing, *(row[0] for row in rows)])
    target = np.concatenate([nothing, *(row[1] for row in rows)])
    number = np.concatenate([nothing, *(np.full(len(row[0]), row[2]) for row in rows)])
    return make(p, vector, source, target, number, np.concatenate([nothing, *(row[3] for row in rows)]))


def _trees(p: int, steps: tuple[sparbit.Step, ...]) -> Transfers:
    r = np.arange(p, dtype=np.int64)
    rows = [(r, (r + d) % p, i, np.full(p, len(offsets))) for i, (d, offsets) in enumerate(steps)]
    return _joined(p, p, rows)


def sparbit_allgather(topology: Topology, root: int) -> Transfers:
    """Sparbit."""
    return _trees(topology.size, sparbit.steps(topology.size))


def pat_allgather(topology: Topology, root: int) -> Transfers:
    """PAT without a limit."""
    return _trees(topology.size, pat.steps(topology.size))


def _butterfly(q: int) -> list[_Row]:
    """Bine's and Swing's steps among an even number of ranks."""
    r = np.arange(q, dtype=np.int64)
    sign = np.where(r % 2, -1, 1)
    return [(r, (r + sign * bine.distance(i)) % q, i, np.full(q, len(away))) for i, away in enumerate(bine.leaving(q))]


def _one(x: int) -> IntArray:
    return np.array([x], np.int64)


def bine_reduce_scatter(topology: Topology, root: int) -> Transfers:
    """Bine; for odd p rank p − 2 takes part for the last one."""
    p = topology.size
    q = p - p % 2
    rows = _butterfly(q) if q else []
    if p > q > 0:
        r = np.arange(q, dtype=np.int64)
        last = (q - 1 - r) * np.where(r % 2, -1, 1) % q  # how far block p − 2 is, with which block p − 1 travels
        for i, away in enumerate(bine.leaving(q)):
            rows[i] = (*rows[i][:3], rows[i][3] + np.isin(last, away))
        rows = [(_one(q), _one(q - 1), -1, _one(p)), *rows, (_one(q - 1), _one(q), len(rows), _one(1))]
        rows = [(source, target, number + 1, blocks) for source, target, number, blocks in rows]
    return _joined(p, p, rows)


def swing_reduce_scatter(topology: Topology, root: int) -> Transfers:
    """Swing; for odd p the last rank sends each other one block."""
    p = topology.size
    q = swing.even(p)
    rows = _butterfly(q) if p > 1 else []
    if p > q:
        step_of = swing.last_meets(q)
        for i in range(len(rows)):
            met = np.flatnonzero(step_of == i)
            rows.append((np.full(len(met), q), met, i, np.ones_like(met)))
    return _joined(p, q, rows)


def recexch_reduce_scatter(topology: Topology, root: int) -> Transfers:
    """Recursive exchange in radix 2."""
    p = topology.size
    rows = [(source, target, i, blocks) for i, (source, target, blocks) in enumerate(recexch.exchanges(p))]
    return _joined(p, p, rows)


def multilane_bcast(topology: Topology, root: int) -> Transfers:
    """Scatter in the root's node, binomial trees on all lanes, gather in every node."""
    p, m = topology.size, multilane.nodes(topology)
    members = topology.order.reshape(-1, m)
    home, lane = divmod(int(topology.virtual[root]), m)

    def tree(size: int, head: int, whole: bool) -> Transfers:
        return tree_up(Tree(near_first_layout(Topology.flat(size)), head), whole).reversed()

    everything = range(m)
    up = list_transfers(
        Schedule(m, m, lambda i: RankSchedule(everything, rabenseifner.reduce_scatter(m, i), everything))
    ).reversed()
    return chain(
        _copies(tree(m, lane, False), members[home : home + 1], p, m),
        _copies(tree(p // m, home, True), members.T, p, m),
        _copies(up, members, p, m),
    )


def _copies(part: Transfers, ranks: IntArray, size: int, vector: int) -> Transfers:
    """The same among the ranks of every row."""
    rows = len(ranks)
    number, blocks = np.tile(part.send_round, rows), np.tile(part.blocks, rows)
    return make(size, vector, ranks[:, part.source].ravel(), ranks[:, part.target].ravel(), number, blocks)


def direct_reduce_scatter(topology: Topology, root: int) -> Transfers:
    """``direct``: near first inside the outermost places, then straight to the collectors, and home."""
    layout = near_first_layout(topology)
    place = layout.places[min(1, layout.depth)]
    k = direct.pieces(np.bincount(place))
    home = np.repeat(place[layout.by_slot[0]], k)
    return _direct(layout, k, home, collectors(home)).relabelled(topology.order)


def direct_allreduce(topology: Topology, root: int) -> Transfers:
    """``direct``, there and back: every outermost place collects the same share."""
    layout = near_first_layout(topology)
    sizes = np.bincount(layout.places[min(1, layout.depth)])
    k = direct.allreduce_pieces(sizes)
    collector = np.arange(k * topology.size, dtype=np.int64) % len(sizes)
    there = _direct(layout, k, collector, collector)
    return chain(there, there.reversed()).relabelled(topology.order)


def _direct(layout: Layout, k: int, home: IntArray, collector: IntArray) -> Transfers:
    p = layout.size
    inside = composed_reduce_scatter(layout, rabenseifner.reduce_scatter, outermost=1).scaled(k * p)
    if layout.depth == 0:
        return inside
    places, block = len(layout.first[1]) - 1, np.arange(k * p) // k
    owner = np.array([layout.owners(1, place, np.arange(p)) for place in range(places)])
    at_collector = owner[collector, block]
    rows = []
    for place in range(places):
        away = (collector != place) & (home != place)
        rows.append(_counted(p, owner[place, block[away]], at_collector[away], 0))
    on = collector != home
    rows.append(_counted(p, at_collector[on], owner[home[on], block[on]], 1))
    between = _joined(p, k * p, rows)
    return chain(inside, _in_turn(between, layout.places[1], places))


def _counted(p: int, source: IntArray, target: IntArray, number: int) -> _Row:
    """One message for each pair of ranks, with the slots between them."""
    keys, blocks = np.unique(source * p + target, return_counts=True)
    return keys // p, keys % p, number, blocks


def _in_turn(t: Transfers, place: IntArray, places: int) -> Transfers:
    """The messages in the order in which a rank sends them: to the next place first."""
    turn = np.lexsort((t.target, (place[t.target] - place[t.source]) % places, t.source, t.send_round))
    return make(t.size, t.vector, t.source[turn], t.target[turn], t.send_round[turn], t.blocks[turn])
