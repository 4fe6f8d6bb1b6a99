"""Direct exchange between the outermost places: every pair of places carries the same load.

Inside the places the vector is reduced level by level, near first. Then every block goes straight from each place to
the place that collects it, one message from owner to owner, instead of travelling along a butterfly, whose first
round sends half of the vector between one pair of places.

    3 places, allreduce: the vector in thirds, third c collected by place c
    A   a0 a1 a2   →  a1 to B, a2 to C; b0 and c0 arrive; sum 0 to B and C
    B   b0 b1 b2   →  b0 to A, b2 to C; a1 and c1 arrive; sum 1 to A and C
    C   c0 c1 c2   →  c0 to A, c1 to B; a2 and b2 arrive; sum 2 to A and B

In a reduce-scatter (and the allgather, its reverse) the place of a block's rank is given, and a large place must get
more than a small one: sent straight, the link into it would be the busiest. So (a − b) / (G − 1) of the slots of a
place of a ranks are collected by each smaller place of b ranks and passed on in a second round. Then all links into a
place of b ranks carry the same, n (1 − b / p) / (G − 1), the least possible, and no byte more leaves a place.

    Requires     a commutative operation
    Rounds       between the places 1, reduce_scatter and allgather 2 where places are unequal; allreduce 2
    Bytes sent   n (p - 1) / p per rank, allreduce twice that; n = bytes of the whole vector
    Cost         among p equals (p - 1) messages at once + n (p - 1) / p (β + γ)
    Memory       one message from each other place
    Locality     between G places of any size: (G - 1) n bytes, allreduce twice that, the least possible; the busiest
                 directed pair carries (n - b) / (G - 1), b of them the smallest place's own, or 2 n / G, the least
                 possible to one part in 100: blocks are cut into slots for that
    Source       one-round exchange as in R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005), §4.4; shares between
                 unequal places are ours
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from topocomm.algorithms import rabenseifner
from topocomm.algorithms.forms import Options
from topocomm.arrays import IntArray
from topocomm.schedule import (
    Combine,
    RankSchedule,
    Recv,
    Round,
    Schedule,
    Send,
    Slots,
    compact,
    refine,
    relabel,
    reorder,
    reverse_rounds,
)
from topocomm.schedule.compose import reduce_scatter_rounds
from topocomm.schedule.layout import Layout, near_first_layout
from topocomm.topology import Topology

__all__ = ["allgather", "allreduce", "allreduce_pieces", "collectors", "loads", "pieces", "reduce_scatter", "shares"]

_FINE = 256
"""Slots that a pair of places carries at least, about, so that whole slots do not unbalance the pairs."""

Rounds: TypeAlias = Callable[[int], tuple[Round, ...]]


def shares(sizes: IntArray) -> IntArray:
    """How many slots of place a (row) place c (column) collects, for places that are home to so many slots.

    The wanted shares are rounded so that rows are exact and columns at most about one slot off.
    """
    out = np.diag(sizes).astype(np.int64)
    if len(sizes) < 3:
        return out
    error = np.zeros(len(sizes))
    for place in np.argsort(-sizes, kind="stable"):
        wanted = np.maximum(sizes[place] - sizes, 0) / (len(sizes) - 1)
        row = np.floor(wanted).astype(np.int64)
        due = np.where(wanted > 0, wanted - row + error, -np.inf)
        more = round(float(wanted.sum())) - int(row.sum())
        row[np.argsort(-due, kind="stable")[:more]] += 1
        error += wanted - row
        row[place] = sizes[place] - row.sum()
        out[place] = row
    return out


def loads(share: IntArray) -> IntArray:
    """Slots from place a (row) to place b (column) in the allgather."""
    out: IntArray = share.sum(0)[:, None] + share - share.T
    np.fill_diagonal(out, 0)
    return out


def collectors(home: IntArray) -> IntArray:
    """The place that collects each slot, given the place of its home; each place's share is spread evenly."""
    out = home.copy()
    for place, row in enumerate(shares(np.bincount(home))):
        who = np.repeat(np.arange(len(row)), row)
        nth = np.concatenate([(np.arange(n) + 0.5) / n for n in row if n])
        out[home == place] = who[np.argsort(nth, kind="stable")]
    return out


def pieces(sizes: IntArray) -> int:
    """Into how many slots a reduce-scatter or allgather cuts each block, so that a pair of places carries enough of
    them; 1 where places are alike, because there whole blocks do."""
    places, p = len(sizes), int(sizes.sum())
    return 1 if (sizes == sizes[0]).all() or places < 3 else max(1, -(-_FINE * (places - 1) // p))


def allreduce_pieces(sizes: IntArray) -> int:
    """Into how many slots an allreduce cuts each rank's share of the vector, so that G places collect alike and every
    rank has its part in it."""
    places, p = len(sizes), int(sizes.sum())
    least = -(-places * int(sizes.max()) // p)
    exact = places // math.gcd(p, places)
    return min(max(least, -(-_FINE * places // p)), -(-least // exact) * exact)


def _inside(layout: Layout, v: int, k: int) -> tuple[Round, ...]:
    rounds = reduce_scatter_rounds(layout, rabenseifner.reduce_scatter, v, outermost=1)
    return tuple(
        Round(
            tuple(Send(s.peer, refine(s.slots, k)) for s in rnd.sends),
            tuple(Recv(r.peer, refine(r.slots, k), r.combine) for r in rnd.recvs),
        )
        for rnd in rounds
    )


def _between(layout: Layout, v: int, k: int, home: IntArray, collector: IntArray) -> tuple[Round, ...]:
    """Virtual rank v's exchange between the outermost places: to the collectors, and on to the homes."""
    here = int(layout.places[1][v])
    mine = np.arange(k * layout.start[1][v], k * layout.stop[1][v])
    homes, via = home[mine], collector[mine]
    collected = mine[via == here]
    first_sends: list[Send] = []
    first_recvs: list[Recv] = []
    sends: list[Send] = []
    recvs: list[Recv] = []
    for step in range(1, len(layout.first[1]) - 1):
        to, source = (here + step) % (len(layout.first[1]) - 1), (here - step) % (len(layout.first[1]) - 1)
        first_sends += [Send(*m) for m in _by_owner(layout, to, mine[(via == to) & (homes != here)], k)]
        arriving = collected[home[collected] != source]
        first_recvs += [Recv(*m, Combine.BEFORE) for m in _by_owner(layout, source, arriving, k)]
        sends += [Send(*m) for m in _by_owner(layout, to, collected[home[collected] == to], k)]
        finished = mine[(homes == here) & (via == source)]
        recvs += [Recv(*m, Combine.BEFORE) for m in _by_owner(layout, source, finished, k)]
    rounds = Round(tuple(first_sends), tuple(first_recvs)), Round(tuple(sends), tuple(recvs))
    return tuple(rnd for rnd in rounds if rnd.sends or rnd.recvs)


def _by_owner(layout: Layout, place: int, slots: IntArray, k: int) -> list[tuple[int, Slots]]:
    """Part ``slots`` (ascending) by the virtual rank that owns them in ``place``."""
    if len(slots) == 0:
        return []
    owners = layout.owners(1, place, slots // k)
    if len(slots) == 1:
        return [(int(owners[0]), compact(slots))]
    heads = np.flatnonzero(np.diff(owners, prepend=-1))
    return [(int(owners[h]), compact(part)) for h, part in zip(heads, np.split(slots, heads[1:]), strict=True)]


def _rounds(layout: Layout, k: int, home: IntArray, collector: IntArray) -> Rounds:
    def rounds(v: int) -> tuple[Round, ...]:
        return _inside(layout, v, k) + _between(layout, v, k, home, collector) if layout.depth else ()

    return rounds


def _by_blocks(topology: Topology) -> tuple[Layout, int, Rounds]:
    """The layout, the slots of a block, and the rounds of a reduce-scatter."""
    layout = near_first_layout(topology)
    place = layout.places[min(1, layout.depth)]
    k = pieces(np.bincount(place))
    home = np.repeat(place[layout.by_slot[0]], k)
    return layout, k, _rounds(layout, k, home, collectors(home))


def reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """Near first inside the outermost places, then direct between them."""
    layout, k, rounds = _by_blocks(topology)
    way = reorder.resolve(options.way, layout.home[topology.virtual])
    part = reorder.reduce_scatter(topology, layout.home, rounds, way, k)
    return Schedule(topology.size, k * topology.size, part, reordering=way, pieces=k)


def allgather(topology: Topology, root: int, options: Options) -> Schedule:
    """The reduce-scatter reversed."""
    layout, k, rounds = _by_blocks(topology)
    way = reorder.resolve(options.way, layout.home[topology.virtual])
    part = reorder.allgather(topology, layout.home, lambda v: reverse_rounds(rounds(v)), way, k)
    return Schedule(topology.size, k * topology.size, part, reordering=way, pieces=k)


def allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Every outermost place collects the same share of the vector, whatever its size."""
    layout = near_first_layout(topology)
    sizes = np.diff(layout.first[min(1, layout.depth)])
    k = allreduce_pieces(sizes)
    nslots = k * topology.size
    collector = np.arange(nslots, dtype=np.int64) % len(sizes)
    rounds = _rounds(layout, k, collector, collector)

    def part(r: int) -> RankSchedule:
        there = rounds(int(topology.virtual[r]))
        body = relabel(there + reverse_rounds(there), topology.order, None)
        return RankSchedule(range(nslots), body, range(nslots))

    return Schedule(topology.size, nslots, part)
