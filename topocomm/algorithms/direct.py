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

import numpy as np

from topocomm.algorithms.counting import one_round, share, twice, widest
from topocomm.algorithms.entry import Algorithm, Case, Form
from topocomm.algorithms.forms import RankRounds, all_slots, backwards, by_virtual_rank
from topocomm.algorithms.options import Options
from topocomm.algorithms.pairwise import MOST_PRICED
from topocomm.algorithms.recursive_halving import NEAR_FIRST
from topocomm.arrays import IntArray
from topocomm.schedule import (
    Combine,
    Item,
    Recv,
    Round,
    Schedule,
    Send,
    refine,
    reorder,
    reverse_rounds,
)
from topocomm.schedule.bulk import Row, in_step, join_rows
from topocomm.schedule.compose import by_owner, reduce_scatter_rounds
from topocomm.schedule.composed import composed_reduce_scatter
from topocomm.schedule.layout import Layout, near_first_layout
from topocomm.schedule.reorder import WAYS
from topocomm.schedule.transfers import Transfers, chain
from topocomm.topology import Topology

__all__ = ["ENTRIES", "allreduce_pieces", "collectors", "loads", "pieces", "shares"]

_FINE = 256
"""Slots that a pair of places carries at least, about, so that whole slots do not unbalance the pairs."""
_MOST_AT_ONCE = 1 << 19
"""Messages in one round beyond which it is not priced: the time of more at once takes long to find."""


def shares(sizes: IntArray) -> IntArray:
    """Count the slots of place a (row) that place c (column) collects; place a is home to ``sizes[a]`` slots.

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
    """Count the slots from place a (row) to place b (column) in the allgather."""
    out: IntArray = share.sum(0)[:, None] + share - share.T
    np.fill_diagonal(out, 0)
    return out


def collectors(home: IntArray) -> IntArray:
    """Find the place that collects each slot, given the place of its home; each place's share is spread evenly."""
    out = home.copy()
    for place, row in enumerate(shares(np.bincount(home))):
        who = np.repeat(np.arange(len(row)), row)
        nth = np.concatenate([(np.arange(n) + 0.5) / n for n in row if n])
        out[home == place] = who[np.argsort(nth, kind="stable")]
    return out


def pieces(sizes: IntArray) -> int:
    """Count the slots into which a reduce-scatter or allgather cuts each block, so that a pair of places carries enough
    of them; 1 where places are of one size, because there whole blocks do."""
    places, p = len(sizes), int(sizes.sum())
    return 1 if (sizes == sizes[0]).all() or places < 3 else max(1, -(-_FINE * (places - 1) // p))


def allreduce_pieces(sizes: IntArray) -> int:
    """Count the slots into which an allreduce cuts each rank's share of the vector, so that all places collect the same
    and every rank has its share in it."""
    places, p = len(sizes), int(sizes.sum())
    least = -(-places * int(sizes.max()) // p)
    exact = places // math.gcd(p, places)
    return min(max(least, -(-_FINE * places // p)), -(-least // exact) * exact)


def _inside(layout: Layout, v: int, k: int) -> tuple[Round, ...]:
    rounds = reduce_scatter_rounds(layout, NEAR_FIRST, v, outermost=1)
    return tuple(
        Round(
            tuple(Send(s.peer, refine(s.slots, k)) for s in rnd.sends),
            tuple(Recv(r.peer, refine(r.slots, k), r.combine) for r in rnd.recvs),
        )
        for rnd in rounds
    )


def _between(layout: Layout, v: int, k: int, home: IntArray, collector: IntArray) -> tuple[Round, ...]:
    """Make virtual rank v's exchange between the outermost places: to the collectors, and on to the homes."""
    here = int(layout.places[1][v])
    mine = np.arange(k * layout.start[1][v], k * layout.stop[1][v])
    homes, via = home[mine], collector[mine]
    collected, others = mine[via == here], homes != here
    bound = home[collected]
    first_sends: list[Send] = []
    first_recvs: list[Recv] = []
    sends: list[Send] = []
    recvs: list[Recv] = []
    places = len(layout.first[1]) - 1
    for step in range(1, places):
        to, source = (here + step) % places, (here - step) % places
        first_sends += [Send(*m) for m in by_owner(layout, 1, to, mine[(via == to) & others], k)]
        first_recvs += [Recv(*m, Combine.BEFORE) for m in by_owner(layout, 1, source, collected[bound != source], k)]
        sends += [Send(*m) for m in by_owner(layout, 1, to, collected[bound == to], k)]
        finished = mine[(via == source) & ~others]
        recvs += [Recv(*m, Combine.BEFORE) for m in by_owner(layout, 1, source, finished, k)]
    rounds = Round(tuple(first_sends), tuple(first_recvs)), Round(tuple(sends), tuple(recvs))
    return tuple(rnd for rnd in rounds if rnd.sends or rnd.recvs)


def _rounds(layout: Layout, k: int, home: IntArray, collector: IntArray) -> RankRounds:
    def rounds(v: int) -> tuple[Round, ...]:
        return _inside(layout, v, k) + _between(layout, v, k, home, collector) if layout.depth else ()

    return rounds


def _homes(layout: Layout) -> tuple[int, IntArray]:
    """Find the slots of a block, and the outermost place that is home to each slot, of a reduce-scatter."""
    place = layout.places[min(1, layout.depth)]
    k = pieces(np.bincount(place))
    return k, np.repeat(place[layout.by_slot[0]], k)


def _reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """Reduce near first inside the outermost places, then exchange directly between them."""
    layout = near_first_layout(topology)
    k, home = _homes(layout)
    rounds = _rounds(layout, k, home, collectors(home))
    return reorder.reduce_scatter(topology, layout.home, rounds, options.way, k)


def _collectors_of_all(layout: Layout) -> tuple[int, IntArray]:
    """Find the slots of a rank's share, and the place that collects each slot, of an allreduce: an equal part each."""
    sizes = np.diff(layout.first[min(1, layout.depth)])
    k = allreduce_pieces(sizes)
    return k, np.arange(k * layout.size, dtype=np.int64) % len(sizes)


def _allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    layout = near_first_layout(topology)
    k, collector = _collectors_of_all(layout)
    there = _rounds(layout, k, collector, collector)

    def rounds(v: int) -> tuple[Item, ...]:
        forth = there(v)
        return forth + reverse_rounds(forth)

    return all_slots(topology, k * topology.size, by_virtual_rank(topology, rounds))


# -- all messages at once ------------------------------------------------------------------------------------------


def _reduce_scatter_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    layout = near_first_layout(topology)
    k, home = _homes(layout)
    return _messages(layout, k, home, collectors(home)).relabelled(topology.order)


def _allreduce_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    layout = near_first_layout(topology)
    k, collector = _collectors_of_all(layout)
    there = _messages(layout, k, collector, collector)
    return chain(there, there.reversed()).relabelled(topology.order)


def _messages(layout: Layout, k: int, home: IntArray, collector: IntArray) -> Transfers:
    p = layout.size
    inside = composed_reduce_scatter(layout, NEAR_FIRST, outermost=1).scaled(k * p)
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
    return chain(inside, _in_turn(join_rows(p, k * p, rows), layout.places[1], places))


def _counted(p: int, source: IntArray, target: IntArray, number: int) -> Row:
    """Make one message for each pair of ranks, with the slots between them."""
    keys, blocks = np.unique(source * p + target, return_counts=True)
    return Row(keys // p, keys % p, number, blocks)


def _in_turn(t: Transfers, place: IntArray, places: int) -> Transfers:
    """Put the messages in the order in which a rank sends them: to the next place first."""
    turn = np.lexsort((t.target, (place[t.target] - place[t.source]) % places, t.source, t.send_round))
    return in_step(t.size, t.vector, t.source[turn], t.target[turn], t.send_round[turn], t.blocks[turn])


def _trials(case: Case) -> list[str]:
    outermost = int(case.topology.nesting[min(1, len(case.topology.nesting) - 1)][-1]) + 1
    return [] if case.topology.size * outermost > MOST_PRICED else [""]


def _too_many(topology: Topology) -> str:
    at_once = topology.size * (max(widest(topology)[:1], default=1) - 1)
    return f"more than {_MOST_AT_ONCE} messages at once" if at_once > _MOST_AT_ONCE else ""


_FORM = Form(_reduce_scatter, _reduce_scatter_bulk)
_SUMMARY = "between the outermost places direct: every pair of them carries the same"

ENTRIES = (
    Algorithm("direct", "allgather", _SUMMARY,
              backwards(_FORM), one_round, share, ways=WAYS, trials=_trials, too_many=_too_many),
    Algorithm("direct", "allreduce", _SUMMARY,
              Form(_allreduce, _allreduce_bulk), lambda p: 2 * one_round(p), twice, trials=_trials, too_many=_too_many),
    Algorithm("direct", "reduce_scatter", _SUMMARY,
              _FORM, one_round, share, ways=WAYS, trials=_trials, too_many=_too_many),
)  # fmt: skip
