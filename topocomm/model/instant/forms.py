"""The closed form of every algorithm that the choice weighs: its terms, and their seconds together.

An algorithm is a list of terms (:mod:`topocomm.model.instant.terms`), one after the other. The depths of a nest of
places are its levels; those of the textbook forms know one level, the ranks in their order. Every form is compared with
the full model (:mod:`topocomm.model.time`) in ``bench/studies/instant.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

from topocomm.algorithms.counting import lg
from topocomm.algorithms.folding import Fold
from topocomm.algorithms.k_trees import TREES
from topocomm.algorithms.options import Options
from topocomm.algorithms.pairwise import MOST_PRICED
from topocomm.algorithms.pipeline import SEGMENTS
from topocomm.algorithms.scattered import WINDOW
from topocomm.model.instant.rounds import Key, hops
from topocomm.model.instant.shape import CIRCLE, PLACES, RANKS, Shape, Terms
from topocomm.model.instant.terms import Overlap, Step, Stream, Tree

__all__ = ["FORMS", "Maker", "can_exchange"]

_MOST_WINDOWS, _MANY = 4, 128
"""Windows of an all-to-all that are looked at; only two beyond this number of ranks."""

Maker = Callable[[Shape, Options], Terms]


def _both(shape: Shape, terms: Terms) -> Terms:
    return terms + shape.back(terms)


def _textbook_halving(shape: Shape, far_first: bool, both: bool, combines: bool) -> Terms:
    fold = Fold(shape.size)
    bits = [1 << i for i in range(fold.q.bit_length() - 1)]
    order = list(reversed(bits)) if far_first else bits
    pattern = "s" if fold.excess else "x"
    there: Terms = [Step(Key(RANKS, 0, 1, pattern, b), 0.5 ** (i + 1), combines=combines) for i, b in enumerate(order)]
    aside = Key(RANKS, 0, 1, "s", 1)
    begin: Terms = [Step(aside, combines=combines)] if fold.excess else []
    end: Terms = [Step(aside, 1.0 if both else 1 / shape.size)] if fold.excess else []
    return [*begin, *there, *(shape.back(there) if both else []), *end]


def _textbook_bruck(shape: Shape, options: Options) -> Terms:
    p, out, have = shape.size, [], 1
    while have < p:
        out.append(Step(Key(RANKS, 0, 1, "s", have), min(have, p - have) / p))
        have *= 2
    return list(out)


def _direct(shape: Shape, combines: bool) -> Terms:
    inside = shape.stages("h", combines, 1)
    return inside + shape.stage("d", 0, 1, combines) if shape.depth else inside


def _lanes(shape: Shape, combines: bool) -> Terms:
    inside = shape.stage("h", shape.node, shape.depth, combines) if shape.node < shape.depth else []
    return inside + shape.stage("h", 0, shape.node, combines)


def _lanes_bcast(shape: Shape, options: Options) -> Terms:
    """Return a scatter inside the root's node, a tree on every lane, and a gather inside nodes."""
    m, digits = shape.children(PLACES, 0, shape.node), shape.digits(PLACES, 0, shape.node, 2, False)
    across: Terms = [Tree(digits, m, 2, 0.0)] if digits else []
    lanes = shape.size // m
    if lanes == 1:
        return across
    out = Tree(shape.digits(PLACES, shape.node, shape.depth, 2, True), lanes, 2, 1 / lanes)
    return [out, *across, *shape.stage("h", shape.node, shape.depth, False)]


def leveled(shape: Shape, letters: str, combines: bool, nest: str) -> Terms:
    """Return the reduce-scatter with a pattern a level, outermost first, out to the levels marked x."""
    doubled = len(letters) - len(letters.lstrip("x"))
    depth = shape.nests[nest].depth
    out: Terms = []
    for d in reversed(range(doubled, depth)):
        out += shape.stage(letters[d], d, d + 1, combines, nest)
    return out


def can_exchange(shape: Shape, depth: int, nest: str) -> bool:
    """Return True if an exchange between all places inside those of ``depth`` has few enough messages to be tried."""
    return shape.size * (shape.children(nest, depth, depth + 1) - 1) <= MOST_PRICED


def _windows(nest: str) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        """Return an all-to-all, 32 messages at a time; of many windows a sample."""
        depth, windows = shape.nests[nest].depth, -(-shape.size // WINDOW)
        some = min(windows, _MOST_WINDOWS if shape.size <= _MANY else 2)
        cuts = [windows * i // some for i in range(some + 1)]
        return [
            Step(Key(nest, 0, depth, f"w{WINDOW}", (low + high) // 2), times=high - low) for low, high in pairwise(cuts)
        ]

    return make


def _pairwise(nest: str) -> Maker:
    return lambda shape, options: shape.shifts(nest, 0, shape.nests[nest].depth, shape.size, 1 / shape.size)


def _digits(nest: str, default: int) -> Maker:
    """Return an all-to-all along the digits of the distance, level by level where places are equal."""

    def make(shape: Shape, options: Options) -> Terms:
        of = shape.nests[nest]
        depths = [d for d in range(of.depth + 1) if (of.sizes(d) == of.sizes(d)[0]).all()]
        radices = options.radix or (default,)
        out: Terms = []
        for i, (outer, inner) in enumerate(reversed(list(pairwise(depths)))):
            pattern = f"b{radices[min(i, len(radices) - 1)]}"
            rounds = len(hops(pattern, shape.children(nest, outer, inner)))
            size = int(of.sizes(inner)[0])
            out += [Step(Key(nest, outer, inner, pattern, i), size) for i in range(rounds)]
        return out

    return make


def _pipeline(combines: bool) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        cuts = ((Key(PLACES, 0, shape.depth, "s", 1), 1.0),)
        return [Stream(cuts, SEGMENTS, shape.size - 1, 1, combines)] if shape.size > 1 else []

    return make


def _cuts(shape: Shape, trees: int) -> tuple[tuple[Key, float], ...]:
    """Return the links out of places, and what they carry of a vector that comes in parts along several trees.

    A place that has inner ranks of all trees takes each part once; a smaller one takes some for every rank.
    """
    nest, cuts = shape.nests[PLACES], []
    for d in range(1, shape.depth + 1):
        members = int(nest.sizes(d).max())
        alone = d == shape.depth
        enters = 1.0 if alone else min(1.0, members / trees) + members * max(0, trees - members) / trees
        cuts.append((Key(PLACES, 0, d, "s", 1), enters))
    return tuple(cuts)


def _two_trees(combines: bool) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        inner = shape.children(PLACES, max(shape.depth - 1, 0), shape.depth)
        places = shape.children(PLACES, 0, shape.depth - 1) if shape.depth > 1 else shape.size
        outside, inside = lg(places), lg(inner) if shape.depth > 1 else 0
        deep = max(1, outside * (1 + inside) + inside)
        segments = options.segments or SEGMENTS
        return [Stream(_cuts(shape, 2), segments, deep, 2, combines, combines)] if shape.size > 1 else []

    return make


def _k_trees(combines: bool) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        segments, k = options.segments or 4, max(1, min(TREES, shape.size - 1))
        members, levels, room = -(-(shape.size - 1) // k), 1, 1
        while room < members:
            levels, room = levels + 1, room * k + 1
        deep = levels + (shape.depth if k < shape.size - 1 else 1)
        return [Stream(_cuts(shape, k), segments, deep, k, combines, combines)] if shape.size > 1 else []

    return make


def _leaders(shape: Shape, combines: bool, around: bool) -> Terms:
    """Return the way up to the leaders of the outermost places, their own rounds, and the way down."""
    up = shape.tree(2, True, combines, False, 1)
    if not shape.depth:
        return []
    m = shape.children(PLACES, 0, 1)
    circle: Terms = [Step(Key(PLACES, 0, 1, "s", 1 << i, True)) for i in range((m - 1).bit_length())]
    return [*up, *(circle if around else shape.doubling(1, leaders=True)), *shape.back(up)]


def _ordered_nest(shape: Shape) -> str:
    return PLACES if shape.topology.is_sorted else RANKS


def _patterns(combines: bool, twice: bool, tree: bool) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        letters = options.levels or "d" * shape.depth
        terms = leveled(shape, letters, combines, shape.labels)
        doubled = len(letters) - len(letters.lstrip("x"))
        middle = shape.doubling(doubled, shape.labels) if doubled else []
        if twice:
            there_and_back = [*terms, *middle, *shape.back(terms)]
            segments = options.segments or 1
            return there_and_back if segments == 1 else [Overlap(tuple(there_and_back), segments)]
        return [*terms, *(shape.tree(2, combines, False, True) if tree else [])]

    return make


def _composed(pattern: str, combines: bool, twice: bool = False) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        terms = shape.stages(pattern if pattern != "k" else f"k{options.radix[0] if options.radix else 4}", combines)
        return _both(shape, terms) if twice else terms

    return make


def _tree(radix: int, up: bool, combines: bool, blocks: bool, nest: str = PLACES) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        return shape.tree(options.radix[0] if options.radix else radix, up, combines, blocks, nest=nest)

    return make


def _then_gather(make: Maker, up: bool, nest: str = PLACES) -> Maker:
    return lambda shape, options: [*make(shape, options), *shape.tree(2, up, False, True, nest=nest)]


def _lines(combines: bool, twice: bool) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        return _both(shape, _lanes(shape, combines)) if twice else _lanes(shape, combines)

    return make


def _straight(combines: bool, twice: bool) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        return _both(shape, _direct(shape, combines)) if twice else _direct(shape, combines)

    return make


def _round(nest: str, combines: bool, twice: bool = False) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        terms = shape.stage("r", 0, shape.nests[nest].depth, combines, nest)
        return _both(shape, terms) if twice else terms

    return make


def _in_ranks(far_first: bool, both: bool, combines: bool) -> Maker:
    return lambda shape, options: _textbook_halving(shape, far_first, both, combines)


def _barrier(nest: str) -> Maker:
    def make(shape: Shape, options: Options) -> Terms:
        if nest == PLACES:
            return _leaders(shape, False, True)
        return [Step(Key(RANKS, 0, 1, "s", 1 << i)) for i in range((shape.size - 1).bit_length())]

    return make


def _scattering(collective: str) -> dict[tuple[str, str], Maker]:
    """Return the forms of an allgather or a reduce-scatter."""
    c = collective != "allgather"
    names: dict[str, Maker] = {
        "kport": _composed("k", c),
        "ring": _round(PLACES, c),
        "direct": _straight(c, False),
        "leveled": _patterns(c, False, False),
        "multilane": _lines(c, False),
    }
    if c:
        names |= {"recursive_halving": _composed("h", c), "circulant": _composed("c", c), "pairwise": _composed("p", c)}
        names |= {"textbook_recursive_halving": _in_ranks(True, False, c), "textbook_pairwise": _textbook_pairwise}
        names |= {"binomial": _reduce_then_scatter}
    else:
        names |= {
            "recursive_doubling": _composed("h", c),
            "bruck": _composed("c", c),
            "textbook_bruck": _textbook_bruck,
        }
        names |= {"textbook_recursive_doubling": _in_ranks(True, False, c), "textbook_ring": _round(RANKS, c)}
    return {(collective, name): make for name, make in names.items()}


def _textbook_pairwise(shape: Shape, options: Options) -> Terms:
    return shape.shifts(RANKS, 0, 1, shape.size, 1 / shape.size, True)


def _reduce_then_scatter(shape: Shape, options: Options) -> Terms:
    nest = _ordered_nest(shape)
    return [*shape.tree(2, True, True, False, nest=nest), *shape.tree(2, False, False, True, nest=nest)]


def _rooted(collective: str) -> dict[tuple[str, str], Maker]:
    """Return the forms of a broadcast or a reduce."""
    c = collective == "reduce"
    whole = "rabenseifner" if c else "scatter_allgather"
    names: dict[str, Maker] = {
        "binomial": _tree(2, c, c, False),
        "knomial": _tree(4, c, c, False),
        "textbook_binomial": _tree(2, c, c, False, RANKS),
        whole: _then_gather(_composed("h", c), c),
        "leveled": _patterns(c, False, True),
        "pipeline": _pipeline(c),
        "two_trees": _two_trees(c),
        "k_trees": _k_trees(c),
        f"textbook_{whole}": _then_gather(_in_ranks(True, False, c) if c else _round(RANKS, c), c, RANKS),
    }
    return {(collective, name): make for name, make in names.items()}


def _prefix(nest: str, exclusive: bool) -> Maker:
    """Return a scan: doubling in the order of ranks, or among the first ranks of places and then inside each."""

    def make(shape: Shape, options: Options) -> Terms:
        places = shape.children(PLACES, 0, 1) if shape.depth else 1
        if nest == RANKS or not shape.topology.is_sorted or places in (1, shape.size):
            members = shape.size - exclusive
            first: Terms = [Step(Key(RANKS, 0, 1, "s", 1))] if exclusive and members else []
            return [*first, *_shifts(RANKS, 0, 1, members)]
        inside = shape.children(PLACES, 1, shape.depth)
        first = [Step(Key(PLACES, 1, shape.depth, "s", 1))] if exclusive and inside > 1 else []
        among = [
            *_shifts(PLACES, 0, 1, places - 1, True),
            Step(Key(PLACES, 0, 1, "s", 1, True), combines=not exclusive),
        ]
        up = shape.tree(2, True, True, False, 1)
        return [*up, *among, *first, *_shifts(PLACES, 1, shape.depth, inside)]

    return make


def _shifts(nest: str, outer: int, inner: int, members: int, leaders: bool = False) -> Terms:
    """Return rounds to the place 1, 2, 4, … further on, of whole vectors that are combined."""
    return [
        Step(Key(nest, outer, inner, "s", 1 << i, leaders), combines=True)
        for i in range(max(members - 1, 0).bit_length())
    ]


FORMS: Mapping[tuple[str, str], Maker] = MappingProxyType(
    {
        ("allreduce", "recursive_doubling"): lambda shape, options: _leaders(shape, True, False),
        ("allreduce", "textbook_recursive_doubling"): lambda shape, options: shape.doubling(1, RANKS),
        ("allreduce", "rabenseifner"): _composed("h", True, True),
        ("allreduce", "textbook_rabenseifner"): _in_ranks(False, True, True),
        ("allreduce", "ring"): _round(PLACES, True, True),
        ("allreduce", "textbook_ring"): _round(RANKS, True, True),
        ("allreduce", "kport"): _composed("k", True, True),
        ("allreduce", "direct"): _straight(True, True),
        ("allreduce", "leveled"): _patterns(True, True, False),
        ("allreduce", "multilane"): _lines(True, True),
        **_scattering("allgather"),
        **_scattering("reduce_scatter"),
        **_scattering("reduce_scatter_block"),
        **_rooted("bcast"),
        **_rooted("reduce"),
        ("bcast", "multilane"): _lanes_bcast,
        ("gather", "binomial"): _tree(2, True, False, True),
        ("gather", "textbook_binomial"): _tree(2, True, False, True, RANKS),
        ("scatter", "binomial"): _tree(2, False, False, True),
        ("scatter", "textbook_binomial"): _tree(2, False, False, True, RANKS),
        ("alltoall", "bruck"): _digits(PLACES, 8),
        ("alltoall", "textbook_bruck"): _digits(RANKS, 2),
        ("alltoall", "pairwise"): _pairwise(PLACES),
        ("alltoall", "textbook_pairwise"): _pairwise(RANKS),
        ("alltoall", "scattered"): _windows(PLACES),
        ("alltoall", "shuffled"): _windows(CIRCLE),
        ("scan", "prefix_doubling"): _prefix(PLACES, False),
        ("scan", "textbook_prefix_doubling"): _prefix(RANKS, False),
        ("exscan", "prefix_doubling"): _prefix(PLACES, True),
        ("exscan", "textbook_prefix_doubling"): _prefix(RANKS, True),
        ("barrier", "dissemination"): _barrier(PLACES),
        ("barrier", "textbook_dissemination"): _barrier(RANKS),
    }
)
"""Collective and algorithm → its terms."""
