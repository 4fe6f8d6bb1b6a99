"""The transfers of the algorithm ``leveled`` for all ranks at once, and the patterns that promise most.

Levels are worked one after another, so the time of a pattern is nearly the sum over its levels: each letter is priced
once a level, alone, and of all patterns only the best few need be priced as a whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from topocomm.algorithms.folding import Fold
from topocomm.algorithms.leveled import FLATS, pattern
from topocomm.algorithms.recursive_doubling import allreduce as doubling
from topocomm.arrays import IntArray
from topocomm.collectives import COLLECTIVES
from topocomm.model.composed import composed_reduce_scatter
from topocomm.model.listing import tree_up
from topocomm.model.network import Network
from topocomm.model.time import schedule_time
from topocomm.schedule import RankSchedule, Schedule
from topocomm.schedule.layout import Layout, near_first_layout
from topocomm.schedule.transfers import Transfers, chain, list_transfers
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology, in_label_order

__all__ = ["leveled_transfers", "promising"]

MOST_MESSAGES = 1 << 16


def _nothing(size: int) -> Transfers:
    none = np.zeros(0, np.int64)
    return Transfers(size, size, none, none, none, none, none, none)


def _in_step(among: Transfers, fold: Fold) -> IntArray:
    """The round of each message of the doubling among places, with a first and a last one for those folded in."""
    if fold.excess == 0:
        return among.send_round
    outside = np.array([fold.new_rank(c) is None for c in range(among.size)])
    absorbs = np.array([fold.absorbs(c) for c in range(among.size)])
    step = among.send_round + ~absorbs[among.source]  # who absorbs has a round before
    step[outside[among.source]] = 0
    step[outside[among.target]] = fold.q.bit_length()
    return np.asarray(step, np.int64)


def _doubling(layout: Layout, d: int) -> Transfers:
    """All places of depth d exchange, doubling: every rank all that it owns."""
    places, p = len(layout.first[d]) - 1, layout.size
    if places == 1:
        return _nothing(p)
    among = list_transfers(Schedule(places, 1, lambda c: RankSchedule(range(1), doubling(places, c), range(1))))
    step = _in_step(among, Fold(places))
    members = [layout.by_slot[d][layout.first[d][c] : layout.first[d][c + 1]] for c in range(places)]
    starts = np.unique(np.concatenate([layout.start[d][m] for m in members]))
    owner = np.array([m[np.searchsorted(layout.start[d][m], starts, "right") - 1] for m in members])
    pieces = len(starts)
    source, target = owner[among.source].ravel(), owner[among.target].ravel()
    label = np.repeat(step, pieces)
    keys = (label * p + source) * p + target
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    widths = np.tile(np.diff(starts, append=p), len(among))
    blocks = np.bincount(which.reshape(-1), weights=widths).astype(np.int64)
    return Transfers(p, p, source[first], target[first], label[first], label[first], blocks, np.ones_like(first))


def segmented(base: Transfers, segments: int) -> Transfers:
    """The same in segments, each a round behind the one before it: see :mod:`topocomm.algorithms.leveled`."""
    step = np.unique(np.maximum(base.send_round, base.recv_round), return_inverse=True)[1].reshape(-1)
    number = np.concatenate([step + s for s in range(segments)]).astype(np.int64)
    source, target, blocks, repeat = (
        np.tile(a, segments) for a in (base.source, base.target, base.blocks, base.repeat)
    )
    return Transfers(base.size, base.vector * segments, source, target, number, number, blocks, repeat)


def leveled_transfers(
    collective: str, levels: str | None, topology: Topology, root: int = 0, segments: int = 1
) -> Transfers:
    """All messages of ``leveled:levels=…,segments=…``. Raises AlgorithmError if letters do not fit the topology."""
    topology = in_label_order(topology)
    layout = near_first_layout(topology)
    letters = pattern(levels, layout.depth, collective == "allreduce")
    doubled = letters.count("x")
    there = composed_reduce_scatter(layout, [FLATS.get(x, FLATS["d"]) for x in letters], doubled)
    if collective in ("reduce_scatter", "reduce_scatter_block"):
        whole = there
    elif collective == "allgather":
        whole = there.reversed()
    elif COLLECTIVES[collective].rooted:
        whole = chain(there, tree_up(Tree(layout, int(topology.virtual[root])), False))
        whole = whole.reversed() if collective == "bcast" else whole
    else:
        whole = chain(there, _doubling(layout, doubled), there.reversed())
        whole = segmented(whole, segments) if segments > 1 else whole
    return whole.relabelled(topology.order)


def promising(collective: str, network: Network, nbytes: float, most: int = 4) -> list[str]:
    """The patterns (names with their option) that should be fastest, at most ``most`` of them.

    Direct exchanges and rings of more than ``MOST_MESSAGES`` messages are left out: they take long to price.
    """
    topology = in_label_order(network.topology)
    layout = near_first_layout(topology)

    def seconds(part: Transfers) -> float:
        return schedule_time(part.relabelled(topology.order), network, nbytes)

    price: dict[tuple[int, str], float] = {}
    for d in range(layout.depth):
        widest = max(len(layout.children(d, c)) for c in range(len(layout.first[d]) - 1))
        for letter, flat in FLATS.items():
            if letter != "h" and topology.size * (widest - 1) > MOST_MESSAGES:
                continue
            took = seconds(_only(composed_reduce_scatter(layout, flat, d), layout.depth - 1 - d))
            if took not in [price.get((d, other)) for other in FLATS]:  # of letters that are alike here the first
                price[d, letter] = took
        if collective == "allreduce":
            price[d, "x"] = seconds(_doubling(layout, d + 1))
    found = []
    for letters in patterns(collective, layout.depth):
        if any((d, letter) not in price for d, letter in enumerate(letters)):
            continue
        doubled = letters.count("x")
        once = sum(price[d, letters[d]] for d in range(doubled, layout.depth))
        middle = price[doubled - 1, "x"] if doubled else 0.0
        found.append((2 * once + middle if collective == "allreduce" else once, f"leveled:levels={letters}"))
    return [name for _, name in sorted(found)[:most]]


def patterns(collective: str, depth: int) -> Iterator[str]:
    """Every pattern for so many levels."""
    for doubled in range(depth + 1 if collective == "allreduce" else 1):
        for inner in itertools.product(FLATS, repeat=depth - doubled):
            yield "x" * doubled + "".join(inner)


def _only(transfers: Transfers, stage: int) -> Transfers:
    """The messages of one level (0: the innermost)."""
    picked = transfers.send_round >> STAGE_BITS == stage
    return replace(
        transfers,
        source=transfers.source[picked],
        target=transfers.target[picked],
        send_round=transfers.send_round[picked],
        recv_round=transfers.recv_round[picked],
        blocks=transfers.blocks[picked],
        repeat=transfers.repeat[picked],
    )


STAGE_BITS = 20
"""Rounds of one level have numbers from a multiple of two to this power on (see composed)."""
