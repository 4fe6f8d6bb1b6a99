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

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from topocomm.algorithms import binomial, pairwise, rabenseifner, recursive_doubling, ring
from topocomm.algorithms.folding import Fold
from topocomm.algorithms.forms import Options, by_virtual_rank
from topocomm.errors import AlgorithmError
from topocomm.schedule import RankSchedule, Recv, Round, Schedule, Send, Slots, relabel, reorder, reverse_rounds
from topocomm.schedule.compose import Flat, by_owner, merge_stage
from topocomm.schedule.layout import Layout, near_first_layout
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology, in_label_order

__all__ = ["FLATS", "allgather", "allreduce", "pattern", "reduce", "reduce_scatter"]


def direct(m: int, c: int) -> tuple[Round, ...]:
    """Child c's one round of a reduce-scatter among m: all messages of the pairwise exchange at once."""
    rounds = pairwise.reduce_scatter(m, c)
    everything = Round(tuple(s for rnd in rounds for s in rnd.sends), tuple(r for rnd in rounds for r in rnd.recvs))
    return (everything,) if rounds else ()


FLATS: Mapping[str, Flat] = MappingProxyType({"h": rabenseifner.reduce_scatter, "d": direct, "r": ring.reduce_scatter})
"""Letter → reduce-scatter over equals."""
_EMPTY = Round((), ())


def pattern(text: str | None, depth: int, doubling: bool) -> str:
    """One letter for each of ``depth`` levels, outermost first; unasked all direct.

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
    """How many of the outermost levels are worked by doubling."""
    return len(letters) - len(letters.lstrip("x"))


def reduce_scatter_rounds(layout: Layout, letters: str, v: int) -> tuple[Round, ...]:
    """Virtual rank v's rounds from the innermost level out, up to the levels marked x."""
    rounds: list[Round] = []
    for d in reversed(range(_doubled(letters), layout.depth)):
        rounds += merge_stage(layout, FLATS[letters[d]], v, d)
    return tuple(rounds)


def _doubling(layout: Layout, d: int, v: int) -> tuple[Round, ...]:
    """Doubling among all places of depth d: what v owns there, with the owners of the same slots elsewhere."""
    mine = np.arange(layout.start[d][v], layout.stop[d][v])
    places = len(layout.first[d]) - 1

    def among(peer: int) -> list[tuple[int, Slots]]:
        return by_owner(layout, d, peer, mine)

    return tuple(
        Round(
            tuple(Send(owner, slots) for s in rnd.sends for owner, slots in among(s.peer)),
            tuple(Recv(owner, slots, r.combine) for r in rnd.recvs for owner, slots in among(r.peer)),
        )
        for rnd in recursive_doubling.allreduce(places, int(layout.places[d][v]))
    )


def allreduce_rounds(layout: Layout, letters: str, v: int) -> tuple[Round, ...]:
    """Virtual rank v's rounds: there, doubling on the levels marked x, and back."""
    there = reduce_scatter_rounds(layout, letters, v)
    return there + _doubling(layout, _doubled(letters), v) + reverse_rounds(there)


def _in_step(layout: Layout, letters: str, v: int) -> tuple[Round, ...]:
    """The same with empty rounds between, so that either end of every message has it in a round of one number."""
    there: list[Round] = []
    for d in reversed(range(_doubled(letters), layout.depth)):
        flat, children = FLATS[letters[d]], {len(layout.children(d, c)) for c in range(len(layout.first[d]) - 1)}
        mine = merge_stage(layout, flat, v, d)
        there += mine + [_EMPTY] * (max(len(flat(m, 0)) for m in children) - len(mine))
    return (*there, *_doubling_in_step(layout, _doubled(letters), v), *reverse_rounds(tuple(there)))


def _doubling_in_step(layout: Layout, d: int, v: int) -> tuple[Round, ...]:
    """With a first round and a last one for all, if there are places to fold in."""
    rounds, fold, place = _doubling(layout, d, v), Fold(len(layout.first[d]) - 1), int(layout.places[d][v])
    if fold.excess == 0 or fold.absorbs(place):
        return rounds
    if fold.new_rank(place) is None:
        return (rounds[0], *[_EMPTY] * (fold.q.bit_length() - 1), rounds[1])
    return (_EMPTY, *rounds, _EMPTY)


def segmented_rounds(layout: Layout, letters: str, v: int, segments: int) -> tuple[Round, ...]:
    """Each segment one round behind the one before it, so that segments are on different levels at a time.

    Segment s has the slots from s p on.
    """
    p, base = layout.size, _in_step(layout, letters, v)
    parts = [relabel(base, None, np.arange(p, dtype=np.int64) + s * p) for s in range(segments)]
    rounds = []
    for t in range(len(base) + segments - 1):
        now = [parts[s][t - s] for s in range(segments) if 0 <= t - s < len(base)]
        rounds.append(Round(tuple(m for r in now for m in r.sends), tuple(m for r in now for m in r.recvs)))
    return tuple(r for r in rounds if r.sends or r.recvs)


# -- builders (see forms) ------------------------------------------------------------------------------------------


def allreduce(topology: Topology, root: int, options: Options) -> Schedule:
    """There and back, without a reordering; in segments if asked for."""
    topology = in_label_order(topology)
    layout, p = near_first_layout(topology), topology.size
    letters = pattern(options.levels, layout.depth, doubling=True)
    if options.segments is not None and options.segments > 1:
        n = p * options.segments
        rounds = by_virtual_rank(topology, partial(segmented_rounds, layout, letters, segments=options.segments))
        return Schedule(p, n, lambda r: RankSchedule(range(n), rounds(r), range(n)))
    rounds = by_virtual_rank(topology, lambda v: allreduce_rounds(layout, letters, v))
    return Schedule(p, p, lambda r: RankSchedule(range(p), rounds(r), range(p)))


def reduce_scatter(topology: Topology, root: int, options: Options) -> Schedule:
    """From the innermost level out."""
    topology = in_label_order(topology)
    layout = near_first_layout(topology)
    letters = pattern(options.levels, layout.depth, doubling=False)
    way = reorder.resolve(options.way, layout.home[topology.virtual])
    part = reorder.reduce_scatter(topology, layout.home, lambda v: reduce_scatter_rounds(layout, letters, v), way)
    return Schedule(topology.size, topology.size, part, reordering=way)


def allgather(topology: Topology, root: int, options: Options) -> Schedule:
    """The reduce-scatter reversed."""
    topology = in_label_order(topology)
    layout = near_first_layout(topology)
    letters = pattern(options.levels, layout.depth, doubling=False)
    way = reorder.resolve(options.way, layout.home[topology.virtual])

    def rounds(v: int) -> tuple[Round, ...]:
        return reverse_rounds(reduce_scatter_rounds(layout, letters, v))

    return Schedule(topology.size, topology.size, reorder.allgather(topology, layout.home, rounds, way), reordering=way)


def reduce(topology: Topology, root: int, options: Options) -> Schedule:
    """The reduce-scatter, then a gather up the tree over places. Reversed, a broadcast."""
    topology = in_label_order(topology)
    layout, p = near_first_layout(topology), topology.size
    letters = pattern(options.levels, layout.depth, doubling=False)
    tree = Tree(layout, int(topology.virtual[root]))

    def rounds(v: int) -> tuple[Round, ...]:
        there = reduce_scatter_rounds(layout, letters, v)
        return there + relabel(binomial.gather(tree, v), None, layout.home)

    by_rank = by_virtual_rank(topology, rounds)

    def part(r: int) -> RankSchedule:
        return RankSchedule(range(p), by_rank(r), range(p) if r == root else range(0))

    return Schedule(p, p, part, root)
