"""Reductions and gathers over nested places with a pattern of messages of its own at every level.

What suits a level depends on its links: where every pair of places has its own link (the routers of a dragonfly's
group) an exchange in one round uses them all; around a torus a ring only ever talks to neighbours; halving needs the
fewest messages. One letter a level, outermost first, says which (``leveled:levels=dhr``):

    h   recursive halving, near first (circulant for other numbers than powers of two)
    d   direct: every combined block straight to its home, all at once in one round
    r   a ring of the places
    x   allreduce only: doubling with all that is owned, so that nothing need be gathered on this level

    allreduce of 4 ranks in 2 places, levels=xh   round 0 (near)   round 1 (far)   round 2 (near)
    rank 0 exchanges                              half with 1      half with 2     half with 1

An allreduce may go in segments (``segments=S``), each a round behind the one before it: then the links inside places
and those between them are busy at the same time, for S - 1 rounds more.

    Requires     a commutative operation
    Rounds       a level of m places: h ⌈lg m⌉, d 1, r m - 1, in an allreduce twice that; x ⌊lg m⌋, + 2 if it folds
    Bytes sent   without x: n (p - 1) / p per rank, allreduce twice that; x: lg m times what a rank owns there
    Cost         a level whose places are reduced from s to s / m bytes: rounds · α + s (m - 1) / m β;
                 d: α and (m - 1) overheads; x: lg m (α + s β)
    Memory       the largest messages of a round together
    Locality     without x on the outer level (G - 1) n bytes between G places, allreduce twice that: the least
    Source       a level at a time as in rabenseifner; rings along dimensions: M. Barnett, R. Littlefield, D. Payne,
                 R. van de Geijn: On the efficiency of global combine algorithms for 2-D meshes with wormhole routing,
                 JPDC 24 (1995); direct: R. Thakur, R. Rabenseifner, W. Gropp, IJHPCA 19 (2005), §4.4
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np

from topocomm.algorithms.binomial import then_gather, then_gather_bulk
from topocomm.algorithms.counting import lg, one_round, share, subtree, twice
from topocomm.algorithms.entry import Algorithm, Case, Form
from topocomm.algorithms.folding import Fold
from topocomm.algorithms.forms import all_slots, backwards, by_virtual_rank
from topocomm.algorithms.options import Options
from topocomm.algorithms.pairwise import MOST_PRICED
from topocomm.algorithms.pairwise import reduce_scatter as pairwise
from topocomm.algorithms.recursive_doubling import doubling
from topocomm.algorithms.recursive_halving import NEAR_FIRST
from topocomm.algorithms.ring import RING
from topocomm.arrays import IntArray
from topocomm.errors import AlgorithmError
from topocomm.schedule import (
    Exchanges,
    RankSchedule,
    Recv,
    Round,
    Schedule,
    Send,
    Slots,
    expand,
    relabel,
    reorder,
    reverse_rounds,
)
from topocomm.schedule.bulk import in_step, no_transfers
from topocomm.schedule.compose import Flat, by_owner, merge_stage
from topocomm.schedule.composed import composed_reduce_scatter, only_stage
from topocomm.schedule.layout import Layout, near_first_layout
from topocomm.schedule.reorder import WAYS
from topocomm.schedule.transfers import Transfers, chain, list_transfers
from topocomm.topology import Topology, in_label_order

__all__ = ["ENTRIES", "FLATS", "pattern", "patterns", "promising"]


def _direct(m: int, c: int) -> tuple[Exchanges, ...]:
    """Make child c's one round of a reduce-scatter among m: all messages of the pairwise exchange at once."""
    return tuple(replace(each, window=m) for each in pairwise(m, c))


FLATS: Mapping[str, Flat] = MappingProxyType({"h": NEAR_FIRST, "d": Flat(_direct), "r": RING})
"""Letter → reduce-scatter over equals."""
OVERLAPPED = 1 << 20
"""Bytes from which on an allreduce may be worth segments that are on different levels at a time."""
_MOST_OVERLAPPED = 256
"""Ranks up to which segments are quick to price."""
_EMPTY = Round((), ())


def pattern(text: str | None, depth: int, doubling: bool) -> str:
    """Read one letter for each of ``depth`` levels, outermost first; unasked all direct.

    Raises AlgorithmError if there are more or fewer letters than levels, or one that means nothing here.
    """
    known = "".join(FLATS) + ("x" if doubling else "")
    if text is None:
        return "d" * depth
    if len(text) != depth or set(text) - set(known):
        raise AlgorithmError(
            f"levels={text} needs one of the letters {', '.join(known)} for each of the {depth} levels of this topology"
        )
    if "x" in text.lstrip("x"):
        raise AlgorithmError(f"levels={text}: x must come first, on the outermost levels")
    return text


def _doubled(letters: str) -> int:
    """Count the outermost levels that are worked by doubling."""
    return len(letters) - len(letters.lstrip("x"))


def _reduce_scatter_rounds(layout: Layout, letters: str, v: int) -> tuple[Round, ...]:
    """Make virtual rank v's rounds from the innermost level out, up to the levels marked x."""
    rounds: list[Round] = []
    for d in reversed(range(_doubled(letters), layout.depth)):
        rounds += merge_stage(layout, FLATS[letters[d]], v, d)
    return tuple(rounds)


def _doubling(layout: Layout, d: int, v: int) -> tuple[Round, ...]:
    """Double among all places of depth d: what v owns there, with the owners of the same slots elsewhere."""
    mine = np.arange(layout.start[d][v], layout.stop[d][v])
    places = len(layout.first[d]) - 1

    def among(peer: int) -> list[tuple[int, Slots]]:
        return by_owner(layout, d, peer, mine)

    return tuple(
        Round(
            tuple(Send(owner, slots) for s in rnd.sends for owner, slots in among(s.peer)),
            tuple(Recv(owner, slots, r.combine) for r in rnd.recvs for owner, slots in among(r.peer)),
        )
        for rnd in doubling(places, int(layout.places[d][v]))
    )


def _allreduce_rounds(layout: Layout, letters: str, v: int) -> tuple[Round, ...]:
    """Make virtual rank v's rounds: there, doubling on the levels marked x, and back."""
    there = _reduce_scatter_rounds(layout, letters, v)
    return there + _doubling(layout, _doubled(letters), v) + reverse_rounds(there)


def _in_step(layout: Layout, letters: str, v: int) -> tuple[Round, ...]:
    """Make the same with empty rounds between, so that both ends of every message have it in a round of one number."""
    there: list[Round] = []
    for d in reversed(range(_doubled(letters), layout.depth)):
        flat, children = FLATS[letters[d]], {len(layout.children(d, c)) for c in range(len(layout.first[d]) - 1)}
        mine = merge_stage(layout, flat, v, d)
        there += mine + [_EMPTY] * (max(len(expand(flat.rounds(m, 0))) for m in children) - len(mine))
    return (*there, *_doubling_in_step(layout, _doubled(letters), v), *reverse_rounds(tuple(there)))


def _doubling_in_step(layout: Layout, d: int, v: int) -> tuple[Round, ...]:
    """Double with a first round and a last one for all, if there are places to fold in."""
    rounds, fold, place = _doubling(layout, d, v), Fold(len(layout.first[d]) - 1), int(layout.places[d][v])
    if fold.excess == 0 or fold.absorbs(place):
        return rounds
    if fold.new_rank(place) is None:
        return (rounds[0], *[_EMPTY] * (fold.q.bit_length() - 1), rounds[1])
    return (_EMPTY, *rounds, _EMPTY)


def _segmented_rounds(layout: Layout, letters: str, v: int, segments: int) -> tuple[Round, ...]:
    """Run each segment one round behind the one before it, so that segments are on different levels at a time.

    Segment s has the slots from s p on.
    """
    p, base = layout.size, _in_step(layout, letters, v)
    parts = [relabel(base, None, np.arange(p, dtype=np.int64) + s * p) for s in range(segments)]
    rounds = []
    for t in range(len(base) + segments - 1):
        now = [parts[s][t - s] for s in range(segments) if 0 <= t - s < len(base)]
        rounds.append(Round(tuple(m for r in now for m in r.sends), tuple(m for r in now for m in r.recvs)))
    return tuple(r for r in rounds if r.sends or r.recvs)


# -- schedules -----------------------------------------------------------------------------------------------------


def _allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Go there and back, without a reordering; in segments if asked for."""
    topology = in_label_order(topology)
    layout, p = near_first_layout(topology), topology.size
    letters = pattern(options.levels, layout.depth, doubling=True)
    if options.segments is not None and options.segments > 1:
        rounds = by_virtual_rank(topology, partial(_segmented_rounds, layout, letters, segments=options.segments))
        return all_slots(topology, p * options.segments, rounds)
    return all_slots(topology, p, by_virtual_rank(topology, partial(_allreduce_rounds, layout, letters)))


def _reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    topology = in_label_order(topology)
    layout = near_first_layout(topology)
    letters = pattern(options.levels, layout.depth, doubling=False)
    return reorder.reduce_scatter(topology, layout.home, partial(_reduce_scatter_rounds, layout, letters), options.way)


def _reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """Reduce and scatter, then gather up the tree over places."""
    topology = in_label_order(topology)
    layout = near_first_layout(topology)
    letters = pattern(options.levels, layout.depth, doubling=False)
    return then_gather(layout, topology, root, partial(_reduce_scatter_rounds, layout, letters))


# -- all messages at once ------------------------------------------------------------------------------------------


def _steps(among: Transfers, fold: Fold) -> IntArray:
    """Number the rounds of the doubling among places, message by message, with a first and a last one for folding."""
    if fold.excess == 0:
        return among.send_round
    outside = np.array([fold.new_rank(c) is None for c in range(among.size)])
    absorbs = np.array([fold.absorbs(c) for c in range(among.size)])
    step = among.send_round + ~absorbs[among.source]  # who absorbs has a round before
    step[outside[among.source]] = 0
    step[outside[among.target]] = fold.q.bit_length()
    return np.asarray(step, np.int64)


def _doubling_bulk(layout: Layout, d: int) -> Transfers:
    """List that all places of depth d exchange, doubling: every rank all that it owns."""
    places, p = len(layout.first[d]) - 1, layout.size
    if places == 1:
        return no_transfers(p)
    among = list_transfers(Schedule(places, 1, lambda c: RankSchedule(range(1), doubling(places, c), range(1))))
    step = _steps(among, Fold(places))
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
    return in_step(p, p, source[first], target[first], label[first], blocks)


def _segmented_bulk(base: Transfers, segments: int) -> Transfers:
    """Cut into segments, each a round behind the one before it."""
    step = np.unique(np.maximum(base.send_round, base.recv_round), return_inverse=True)[1].reshape(-1)
    number = np.concatenate([step + s for s in range(segments)]).astype(np.int64)
    source, target, blocks, repeat = (
        np.tile(a, segments) for a in (base.source, base.target, base.blocks, base.repeat)
    )
    return Transfers(base.size, base.vector * segments, source, target, number, number, blocks, repeat)


def _there(topology: Topology, options: Options, doubling: bool) -> tuple[Layout, int, Transfers]:
    """List the messages of the reduce-scatter, between virtual ranks, out to the levels that are worked by doubling."""
    layout = near_first_layout(topology)
    letters = pattern(options.levels, layout.depth, doubling)
    doubled = _doubled(letters)
    return layout, doubled, composed_reduce_scatter(layout, [FLATS.get(x, FLATS["d"]) for x in letters], doubled)


def _allreduce_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    topology = in_label_order(topology)
    layout, doubled, there = _there(topology, options, True)
    whole = chain(there, _doubling_bulk(layout, doubled), there.reversed())
    if options.segments is not None and options.segments > 1:
        whole = _segmented_bulk(whole, options.segments)
    return whole.relabelled(topology.order)


def _reduce_scatter_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    topology = in_label_order(topology)
    return _there(topology, options, False)[2].relabelled(topology.order)


def _reduce_bulk(topology: Topology, root: int, options: Options) -> Transfers:
    topology = in_label_order(topology)
    layout, _, there = _there(topology, options, False)
    return then_gather_bulk(layout, topology, root, there)


# -- the patterns that promise most ----------------------------------------------------------------------------------


def patterns(collective: str, depth: int) -> Iterator[str]:
    """Give every pattern for ``depth`` levels."""
    for doubled in range(depth + 1 if collective == "allreduce" else 1):
        for inner in itertools.product(FLATS, repeat=depth - doubled):
            yield "x" * doubled + "".join(inner)


def _prices(collective: str, topology: Topology, seconds: Callable[[Transfers], float]) -> dict[tuple[int, str], float]:
    """Price each letter on each level alone; of letters that come to the same only the first.

    Exchanges and rings of more than ``MOST_PRICED`` messages are left out: they take long to price.
    """
    topology = in_label_order(topology)
    layout = near_first_layout(topology)
    price: dict[tuple[int, str], float] = {}
    for d in range(layout.depth):
        widest = max(len(layout.children(d, c)) for c in range(len(layout.first[d]) - 1))
        for letter, flat in FLATS.items():
            if letter != "h" and topology.size * (widest - 1) > MOST_PRICED:
                continue
            alone = only_stage(composed_reduce_scatter(layout, flat, d), layout.depth - 1 - d)
            took = seconds(alone.relabelled(topology.order))
            if took not in [price.get((d, other)) for other in FLATS]:
                price[d, letter] = took
        if collective == "allreduce":
            price[d, "x"] = seconds(_doubling_bulk(layout, d + 1).relabelled(topology.order))
    return price


def promising(collective: str, topology: Topology, seconds: Callable[[Transfers], float], most: int = 4) -> list[str]:
    """Find the patterns (options ``levels=…``) that should be fastest, at most ``most`` of them.

    ``seconds`` prices a list of messages. Levels are worked one after another, so that the time of a pattern is nearly
    the sum over its levels: each letter is priced once a level.
    """
    price, found = _prices(collective, topology, seconds), []
    depth = len(topology.nesting) - 1
    for letters in patterns(collective, depth):
        if any((d, letter) not in price for d, letter in enumerate(letters)):
            continue
        doubled = _doubled(letters)
        once = sum(price[d, letters[d]] for d in range(doubled, depth))
        middle = price[doubled - 1, "x"] if doubled else 0.0
        found.append((2 * once + middle if collective == "allreduce" else once, f"levels={letters}"))
    return [option for _, option in sorted(found)[:most]]


def _trials(case: Case) -> list[str]:
    tried = case.patterns(2) if case.patterns else promising(case.collective, case.topology, case.seconds, 2)
    if case.collective == "allreduce" and case.nbytes >= OVERLAPPED and case.topology.size <= _MOST_OVERLAPPED:
        tried.append(f"{tried[0]},segments=4")
    return tried


_FORM = Form(_reduce_scatter, _reduce_scatter_bulk)
_REDUCE = Form(_reduce, _reduce_bulk)
_SUMMARY = "a pattern of its own on every level (levels=…): direct, halving or ring"


def _rooted_rounds(p: int) -> int:
    return lg(p) + one_round(p)


ENTRIES = (
    Algorithm("leveled", "allgather", _SUMMARY,
              backwards(_FORM), one_round, share, ways=WAYS, levels=True, trials=_trials),
    Algorithm("leveled", "allreduce", _SUMMARY,
              Form(_allreduce, _allreduce_bulk), lambda p: 2 * one_round(p), twice, levels=True, segments=True,
              trials=_trials),
    Algorithm("leveled", "reduce_scatter", _SUMMARY,
              _FORM, one_round, share, ways=WAYS, levels=True, trials=_trials),
    Algorithm("leveled", "bcast", _SUMMARY,
              backwards(_REDUCE), _rooted_rounds, twice, levels=True, trials=_trials),
    Algorithm("leveled", "reduce", _SUMMARY,
              _REDUCE, _rooted_rounds, lambda p: share(p) + subtree(p), levels=True, trials=_trials),
)  # fmt: skip
