"""The one table of algorithms: it drives dispatch, ``list``, help, tests and documentation.

Every entry builds a :class:`~topocomm.schedule.Schedule` from a topology. The plain name is the topology-aware form;
``textbook_…`` is the same algorithm in the order of ranks, as textbooks print it: the baseline. ``name:option`` sets
an option, for instance ``recursive_doubling:direct`` (the way of the reordering), ``bruck:radix=4``,
``bruck:radix=64/2`` (a radix per level, nearest first) or ``textbook_pat:aggregate=8`` (blocks a message at most).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

from topocomm.algorithms import (
    bine,
    circulant,
    direct,
    forms,
    k_trees,
    knomial,
    leveled,
    multilane,
    pairwise,
    pat,
    pipeline,
    rabenseifner,
    recexch,
    recursive_doubling,
    recursive_halving,
    rooted,
    shuffled,
    sparbit,
    swing,
    two_trees,
)
from topocomm.algorithms.forms import Builder, Options
from topocomm.collectives import COLLECTIVES, find_collective
from topocomm.errors import AlgorithmError
from topocomm.schedule import Schedule
from topocomm.schedule.reorder import WAYS
from topocomm.topology import Topology

__all__ = ["TABLE", "Algorithm", "Options", "find", "make_schedule", "parse_name"]


@dataclass(frozen=True)
class Algorithm:
    """One entry of the table.

    On a flat topology no rank has more than ``rounds(p)`` rounds or sends more than ``sent(p)`` times the vector, and
    for p a power of two the busiest rank has exactly that. ``ways`` are the realisations of its reordering;
    ``in_order``: it can combine operands in the order of ranks (``recursive_doubling`` only if they stand in topology
    order). ``whole``: every combining message carries the whole vector, so that an operation never sees a piece of it.
    """

    name: str
    collective: str
    summary: str
    build: Builder
    rounds: Callable[[int], int]
    sent: Callable[[int], Fraction]
    power_of_two: bool = False
    in_order: bool = False
    whole: bool = False
    ways: tuple[str, ...] = ("none",)
    radix: bool = False
    radices: bool = False
    """Whether every level may have a radix of its own."""
    aggregate: bool = False
    levels: bool = False
    segments: bool = False

    @property
    def baseline(self) -> bool:
        """Whether this is a textbook form, in the order of ranks."""
        return self.name.startswith("textbook_")

    @property
    def requires(self) -> str:
        """What the number of ranks must be, in words."""
        return "p a power of two" if self.power_of_two else "any p"

    def check(self, p: int) -> None:
        """Raise AlgorithmError if the algorithm cannot run on p ranks."""
        if self.power_of_two and p & (p - 1):
            others = [name for name, a in TABLE[self.collective].items() if not a.power_of_two]
            raise AlgorithmError(
                f"{self.collective} algorithm {self.name!r} needs a power of two of ranks, the communicator has {p}; "
                f"use one of: {', '.join(others)}, native"
            )

    def check_whole(self) -> None:
        """Raise AlgorithmError if the algorithm cuts vectors."""
        if not self.whole:
            others = [name for name, a in TABLE[self.collective].items() if a.whole]
            raise AlgorithmError(
                f"{self.collective} algorithm {self.name!r} cuts vectors, and an operation of the program's own may "
                "need them whole; declare it with topocomm.elementwise(op) if it works on every element by itself, or "
                f"use one of: {', '.join(others)}, native"
            )


def _lg(p: int) -> int:
    return (p - 1).bit_length()


def _floor_lg(p: int) -> int:
    return p.bit_length() - 1


def _folded(p: int) -> int:
    return 0 if p & (p - 1) == 0 else 1


def _one_round(p: int) -> int:
    return min(p - 1, 1)


def _share(p: int) -> Fraction:
    return Fraction(p - 1, p)


def _subtree(p: int) -> Fraction:
    """The largest subtree below the root of a binomial tree."""
    return Fraction(max(p - (1 << _lg(p) >> 1), 1 << _lg(p) >> 2) if p > 1 else 0, p)


def _digits(radix: int) -> tuple[Callable[[int], int], Callable[[int], Fraction]]:
    """Rounds and volume of Bruck's all-to-all among p equals."""

    def weights(p: int) -> list[int]:
        out = [1]
        while out[-1] * radix < p:
            out.append(out[-1] * radix)
        return out if p > 1 else []

    def volume(p: int) -> Fraction:
        return Fraction(sum(sum(1 for o in range(p) if o // w % radix) for w in weights(p)), p)

    return lambda p: len(weights(p)), volume


_rounds_8, _sent_8 = _digits(8)
_rounds_2, _sent_2 = _digits(2)


def _twice(p: int) -> Fraction:
    return 2 * _share(p)


def _segments(p: int) -> int:
    """Rounds of a rank in the middle of a chain."""
    return pipeline.SEGMENTS * min(p - 1, 1) + (p > 2)


def _reduce_and_scatter(p: int) -> Fraction:
    """A vector to the parent, and its subtree's blocks but its own, back to its children."""
    return 1 + _subtree(p) - Fraction(1, p) if p > 1 else Fraction(0)


_direct = ("none", "local", "direct")

_ENTRIES = (
    # allgather
    Algorithm("recursive_doubling", "allgather", "far first with one block; halving reversed, or circulant",
              forms.composed_allgather(rabenseifner.reduce_scatter), _lg, _share, ways=WAYS),
    Algorithm("bruck", "allgather", "far first with one block; circulant reversed on every level",
              forms.composed_allgather(circulant.reduce_scatter), _lg, _share, ways=WAYS),
    Algorithm("ring", "allgather", "a ring in topology order",
              forms.ring_allgather, lambda p: p - 1, _share, ways=WAYS),
    Algorithm("direct", "allgather", "between the outermost places direct: every pair of them carries the same",
              direct.allgather, _one_round, _share, ways=WAYS),
    Algorithm("leveled", "allgather", "a pattern of its own on every level (levels=…): direct, halving or ring",
              leveled.allgather, _one_round, _share, ways=WAYS, levels=True),
    Algorithm("textbook_recursive_doubling", "allgather", "r ^ 1, r ^ 2, …: the last and largest message goes farthest",
              forms.textbook_allgather(recursive_doubling.textbook_allgather), _lg, _share, power_of_two=True),
    Algorithm("textbook_bruck", "allgather", "from r + 1, r + 2, r + 4, …, then a rotation",
              forms.textbook_bruck_allgather, _lg, _share, ways=("local",)),
    Algorithm("textbook_ring", "allgather", "a ring in the order of ranks",
              forms.in_rank_order(forms.ring_allgather), lambda p: p - 1, _share),
    Algorithm("textbook_bine", "allgather", "Bine trees (negabinary distances) in the order of ranks",
              forms.textbook_allgather(bine.allgather), bine.rounds, bine.sent_allgather),
    Algorithm("textbook_sparbit", "allgather", "to r + p / 2, …, r + 2, r + 1: a binomial tree a block, far first",
              forms.textbook_allgather(sparbit.allgather), _lg, _share),
    Algorithm("textbook_pat", "allgather", "as Sparbit, messages of at most N blocks where aggregate=N is given",
              pat.allgather, _lg, _share, aggregate=True),
    Algorithm("textbook_recexch", "allgather", "recursive exchange: a block to the rank reversed, then far first",
              recexch.allgather, recexch.rounds, lambda p: recexch.sent(p, True), radix=True),
    Algorithm("multilane", "allgather", "on every lane between equal nodes, then inside the nodes",
              multilane.allgather, _lg, _share, ways=WAYS),
    # allreduce
    Algorithm("recursive_doubling", "allreduce", "small vectors: doubling among the leaders of places",
              forms.leaders_allreduce, lambda p: _floor_lg(p) + 2 * _folded(p),
              lambda p: Fraction(_floor_lg(p) + _folded(p)), in_order=True, whole=True),
    Algorithm("rabenseifner", "allreduce", "near-first reduce-scatter composed over levels, and back",
              forms.composed_allreduce(rabenseifner.reduce_scatter), lambda p: 2 * _lg(p), _twice),
    Algorithm("ring", "allreduce", "a ring in topology order",
              forms.ring_allreduce, lambda p: 2 * (p - 1), _twice),
    Algorithm("direct", "allreduce", "between the outermost places direct: every pair of them carries the same",
              direct.allreduce, lambda p: 2 * _one_round(p), _twice),
    Algorithm("leveled", "allreduce", "a pattern of its own on every level (levels=…): direct, halving or ring",
              leveled.allreduce, lambda p: 2 * _one_round(p), _twice, levels=True, segments=True),
    Algorithm("textbook_recursive_doubling", "allreduce", "r ^ 1, r ^ 2, … with the whole vector",
              forms.textbook_recursive_doubling_allreduce, lambda p: _floor_lg(p) + 2 * _folded(p),
              lambda p: Fraction(_floor_lg(p) + _folded(p)), in_order=True, whole=True),
    Algorithm("textbook_rabenseifner", "allreduce", "halving r ^ 1, r ^ 2, … and back; folds other p",
              forms.textbook_rabenseifner_allreduce, lambda p: 2 * _floor_lg(p) + 2 * _folded(p),
              lambda p: 2 * _share(1 << _floor_lg(p)) + _folded(p), in_order=True),
    Algorithm("textbook_ring", "allreduce", "a ring in the order of ranks",
              forms.in_rank_order(forms.ring_allreduce), lambda p: 2 * (p - 1), _twice),
    Algorithm("textbook_bine", "allreduce", "Bine trees (negabinary distances) in the order of ranks, and back",
              bine.allreduce, lambda p: 2 * bine.rounds(p),
              lambda p: _share(p) + bine.sent_allgather(p)),
    Algorithm("textbook_swing", "allreduce", "Swing: r ± 1, 1, 3, 5, 11, … to either side in turn, and back",
              swing.allreduce, swing.rounds, swing.sent),
    Algorithm("multilane", "allreduce", "inside equal nodes, on every lane between them, and back",
              multilane.allreduce, lambda p: 2 * _lg(p), _twice),
    # reduce_scatter
    Algorithm("recursive_halving", "reduce_scatter", "near first with half of the vector; or circulant",
              forms.composed_reduce_scatter(rabenseifner.reduce_scatter), _lg, _share, ways=WAYS),
    Algorithm("circulant", "reduce_scatter", "near first with half of the vector; circulant on every level",
              forms.composed_reduce_scatter(circulant.reduce_scatter), _lg, _share, ways=WAYS),
    Algorithm("pairwise", "reduce_scatter", "every combined block straight to its home, level by level",
              forms.composed_reduce_scatter(pairwise.reduce_scatter), lambda p: p - 1, _share, ways=WAYS),
    Algorithm("direct", "reduce_scatter", "between the outermost places direct: every pair of them carries the same",
              direct.reduce_scatter, _one_round, _share, ways=WAYS),
    Algorithm("ring", "reduce_scatter", "a ring in topology order",
              forms.ring_reduce_scatter, lambda p: p - 1, _share, ways=WAYS),
    Algorithm("leveled", "reduce_scatter", "a pattern of its own on every level (levels=…): direct, halving or ring",
              leveled.reduce_scatter, _one_round, _share, ways=WAYS, levels=True),
    Algorithm("binomial", "reduce_scatter", "reduce to rank 0 and scatter, in the order of ranks",
              rooted.binomial_reduce_scatter, lambda p: 2 * _lg(p),
              _reduce_and_scatter, in_order=True, whole=True),
    Algorithm("textbook_recursive_halving", "reduce_scatter", "half of the vector to the farthest rank; folds other p",
              forms.textbook_reduce_scatter(recursive_halving.textbook_reduce_scatter),
              lambda p: _floor_lg(p) + 2 * _folded(p), lambda p: max(_share(p), Fraction(_folded(p)))),
    Algorithm("textbook_pairwise", "reduce_scatter", "every block straight to its home",
              forms.textbook_reduce_scatter(pairwise.reduce_scatter), lambda p: p - 1, _share),
    Algorithm("textbook_bine", "reduce_scatter", "Bine trees (negabinary distances) in the order of ranks",
              forms.textbook_reduce_scatter(bine.reduce_scatter), bine.rounds, bine.sent),
    Algorithm("textbook_pat", "reduce_scatter", "PAT: r - 1, r - 2, …, a binomial tree a block, near first",
              pat.reduce_scatter, _lg, _share, aggregate=True),
    Algorithm("textbook_recexch", "reduce_scatter", "recursive exchange, distance doubling, then to the reversed rank",
              recexch.reduce_scatter, recexch.rounds, recexch.sent, radix=True),
    Algorithm("multilane", "reduce_scatter", "inside equal nodes, then on every lane between them",
              multilane.reduce_scatter, _lg, _share, ways=WAYS),
    # alltoall
    Algorithm("bruck", "alltoall", "few messages: along the digits of the offset, level by level, radix 8",
              forms.bruck_alltoall(8), _rounds_8, _sent_8, ways=("local",), radix=True, radices=True),
    Algorithm("pairwise", "alltoall", "every block straight to its destination, near ones first",
              forms.pairwise_alltoall, lambda p: p, _share),
    Algorithm("scattered", "alltoall", "every block straight to its destination, 32 at a time",
              forms.scattered_alltoall, lambda p: -(-p // pairwise.WINDOW), _share),
    Algorithm("shuffled", "alltoall", "every block straight to its destination, in no order, 32 at a time",
              shuffled.alltoall, lambda p: -(-p // pairwise.WINDOW), _share),
    Algorithm("textbook_bruck", "alltoall", "few messages: along the bits of the offset, in the order of ranks",
              forms.in_rank_order(forms.bruck_alltoall(2)), _rounds_2, _sent_2, ways=("local",), radix=True),
    Algorithm("textbook_pairwise", "alltoall", "every block straight to its destination, in the order of ranks",
              forms.in_rank_order(forms.pairwise_alltoall), lambda p: p, _share),
    # bcast and reduce
    Algorithm("binomial", "bcast", "small vectors: a binomial tree over places",
              rooted.reversed_reduce(rooted.binomial_reduce), _lg, lambda p: Fraction(_lg(p))),
    Algorithm("knomial", "bcast", "small vectors: a k-nomial tree over places, a radix of its own on every level",
              rooted.reversed_reduce(rooted.knomial_reduce), knomial.rounds,
              lambda p: Fraction(knomial.children_of_root(p)), radix=True, radices=True),
    Algorithm("scatter_allgather", "bcast", "large vectors: scatter over places, then the near-last allgather",
              rooted.reversed_reduce(rooted.blocks_reduce), lambda p: 2 * _lg(p), _twice),
    Algorithm("pipeline", "bcast", "very large vectors: segments along a chain over places",
              rooted.reversed_reduce(rooted.pipeline_reduce), _segments, lambda p: Fraction(min(p - 1, 1))),
    Algorithm("leveled", "bcast", "a pattern of its own on every level (levels=…): direct, halving or ring",
              rooted.reversed_reduce(leveled.reduce), lambda p: _lg(p) + _one_round(p), _twice, levels=True),
    Algorithm("k_trees", "bcast", "medium and large vectors: k-th parts in segments down k short trees",
              rooted.reversed_reduce(k_trees.reduce), k_trees.rounds, lambda p: Fraction(min(p - 1, 1)), radix=True,
              segments=True),
    Algorithm("two_trees", "bcast", "large vectors: halves in segments down two in-order trees",
              rooted.reversed_reduce(two_trees.reduce), two_trees.rounds, lambda p: Fraction(min(p - 1, 1)),
              segments=True),
    Algorithm("textbook_binomial", "bcast", "a binomial tree in the order of ranks",
              forms.in_rank_order(rooted.reversed_reduce(rooted.binomial_reduce)), _lg, lambda p: Fraction(_lg(p))),
    Algorithm("textbook_scatter_allgather", "bcast", "scatter in the order of ranks, then a ring",
              rooted.textbook_blocks_bcast, lambda p: _lg(p) + p - 1, _twice),
    Algorithm("multilane", "bcast", "a part on every lane between equal nodes; scatter and gather inside them",
              multilane.bcast, _lg, lambda p: Fraction(_lg(p))),
    Algorithm("binomial", "reduce", "small vectors: a binomial tree over places",
              rooted.binomial_reduce, _lg, lambda p: Fraction(min(p - 1, 1)), in_order=True, whole=True),
    Algorithm("knomial", "reduce", "small vectors: a k-nomial tree over places, a radix of its own on every level",
              rooted.knomial_reduce, knomial.rounds, lambda p: Fraction(min(p - 1, 1)), whole=True, radix=True,
              radices=True),
    Algorithm("rabenseifner", "reduce", "large vectors: near-first reduce-scatter, then gather over places",
              rooted.blocks_reduce, lambda p: 2 * _lg(p), lambda p: _share(p) + _subtree(p)),
    Algorithm("pipeline", "reduce", "very large vectors: segments along a chain over places",
              rooted.pipeline_reduce, _segments, lambda p: Fraction(min(p - 1, 1))),
    Algorithm("leveled", "reduce", "a pattern of its own on every level (levels=…): direct, halving or ring",
              leveled.reduce, lambda p: _lg(p) + _one_round(p), lambda p: _share(p) + _subtree(p), levels=True),
    Algorithm("k_trees", "reduce", "medium and large vectors: k-th parts in segments up k short trees",
              k_trees.reduce, k_trees.rounds, lambda p: Fraction(min(p - 1, 1)), radix=True, segments=True),
    Algorithm("two_trees", "reduce", "large vectors: halves in segments up two in-order trees",
              two_trees.reduce, two_trees.rounds, lambda p: Fraction(min(p - 1, 1)), segments=True),
    Algorithm("textbook_binomial", "reduce", "a binomial tree in the order of ranks",
              forms.in_rank_order(rooted.binomial_reduce), _lg, lambda p: Fraction(min(p - 1, 1)), in_order=True,
              whole=True),
    Algorithm("textbook_rabenseifner", "reduce", "far-first halving, then gather, in the order of ranks",
              rooted.textbook_blocks_reduce, lambda p: _floor_lg(p) + 2 * _folded(p) + _lg(p),
              lambda p: max(_share(p), Fraction(_folded(p))) + _subtree(p)),
    # gather, scatter, barrier
    Algorithm("binomial", "gather", "a binomial tree over places",
              rooted.binomial_gather, _lg, _subtree, ways=_direct),
    Algorithm("textbook_binomial", "gather", "a binomial tree in the order of ranks",
              forms.in_rank_order(rooted.binomial_gather), _lg, _subtree),
    Algorithm("binomial", "scatter", "a binomial tree over places",
              rooted.binomial_scatter, _lg, _share, ways=_direct),
    Algorithm("textbook_binomial", "scatter", "a binomial tree in the order of ranks",
              forms.in_rank_order(rooted.binomial_scatter), _lg, _share),
    Algorithm("dissemination", "barrier", "dissemination among the leaders of places",
              forms.leaders_barrier, _lg, lambda p: Fraction(0)),
    Algorithm("textbook_dissemination", "barrier", "dissemination in the order of ranks",
              forms.textbook_barrier, _lg, lambda p: Fraction(0)),
)  # fmt: skip


def _table() -> Mapping[str, Mapping[str, Algorithm]]:
    table: dict[str, dict[str, Algorithm]] = {collective: {} for collective in COLLECTIVES}
    for entry in _ENTRIES:
        table[entry.collective][entry.name] = entry
        if entry.collective == "reduce_scatter":
            table["reduce_scatter_block"][entry.name] = replace(entry, collective="reduce_scatter_block")
    return MappingProxyType({collective: MappingProxyType(entries) for collective, entries in table.items()})


TABLE: Mapping[str, Mapping[str, Algorithm]] = _table()
"""Collective → name → algorithm."""


def parse_name(text: str) -> tuple[str, Options]:
    """Part ``name:option,option`` into the name and its options. Raises AlgorithmError for an option unknown."""
    if not isinstance(text, str):
        raise AlgorithmError(f"an algorithm is named by a string, found {text!r}")
    name, colon, rest = text.partition(":")
    way: str | None = None
    radix: tuple[int, ...] = ()
    aggregate: int | None = None
    levels: str | None = None
    segments: int | None = None
    for option in rest.split(",") if colon else ():
        key, _, value = option.partition("=")
        if option in WAYS and option != "none":
            way = option
        elif key == "radix" and all(x.isdecimal() and int(x) >= 2 for x in value.split("/")):
            radix = tuple(map(int, value.split("/")))
        elif key == "aggregate" and value.isdecimal() and int(value) >= 1:
            aggregate = int(value)
        elif key == "levels" and value.isalpha():
            levels = value
        elif key == "segments" and value.isdecimal() and int(value) >= 1:
            segments = int(value)
        else:
            raise AlgorithmError(
                f"unknown option {option!r} in {text!r}; options are local, exchange, direct, radix=N with "
                "N ≥ 2, or radix=N/M/… for the nearest level, the next, …, aggregate=N and segments=N with N ≥ 1, "
                "and levels=LETTERS"
            )
    return name, Options(way, radix, aggregate, levels, segments)


def _having(option: str) -> str:
    """The algorithms that have an option."""
    return ", ".join(sorted({a.name for entries in TABLE.values() for a in entries.values() if getattr(a, option)}))


def find(collective: str, text: str) -> tuple[Algorithm, Options]:
    """The algorithm called ``name`` or ``name:options``. Raises AlgorithmError if it, or an option, is unknown."""
    find_collective(collective)
    name, options = parse_name(text)
    algorithm = TABLE[collective].get(name)
    if algorithm is None:
        raise AlgorithmError(
            f"unknown {collective} algorithm {name!r}; known are {', '.join(TABLE[collective])} and native"
        )
    if options.way is not None and options.way not in algorithm.ways:
        raise AlgorithmError(
            f"{collective} algorithm {name!r} cannot realise its reordering as {options.way!r}; "
            f"it offers {', '.join(algorithm.ways)}"
        )
    if options.radix and not algorithm.radix:
        having = _having("radix")
        raise AlgorithmError(f"{collective} algorithm {name!r} has no radix; those that have are {having}")
    if len(options.radix) > 1 and not algorithm.radices:
        raise AlgorithmError(f"{collective} algorithm {name!r} has one radix, not one a level; found {text!r}")
    if options.aggregate is not None and not algorithm.aggregate:
        having = _having("aggregate")
        raise AlgorithmError(f"{collective} algorithm {name!r} has no limit to aggregate; those that have are {having}")
    for option in ("levels", "segments"):
        if getattr(options, option) is not None and not getattr(algorithm, option):
            having = _having(option)
            raise AlgorithmError(f"{collective} algorithm {name!r} takes no {option}; those that do are {having}")
    return algorithm, options


def make_schedule(collective: str, text: str, topology: Topology, root: int = 0, ordered: bool = False) -> Schedule:
    """The schedule of ``collective`` by the algorithm called ``text`` on ``topology``.

    ``ordered`` asks that operands be combined in the order of ranks, for operations that are not commutative.
    Raises AlgorithmError for an unknown name, an option it has not, a number of ranks that it cannot run on, or if it
    cannot keep the order of operands.
    """
    algorithm, options = find(collective, text)
    algorithm.check(topology.size)
    if not 0 <= root < topology.size:
        raise AlgorithmError(f"root {root} is not a rank; the communicator has {topology.size}")
    schedule = algorithm.build(topology, root, replace(options, ordered=ordered))
    if ordered and not schedule.in_order:
        others = [name for name, a in TABLE[collective].items() if a.in_order and name != algorithm.name]
        raise AlgorithmError(
            f"{collective} algorithm {text!r} does not combine operands in the order of ranks"
            f"{' here' if algorithm.in_order else ''}, which an operation that is not commutative needs; "
            f"use one of: {', '.join(others)}, native"
        )
    return replace(schedule, collective=collective, algorithm=text)
