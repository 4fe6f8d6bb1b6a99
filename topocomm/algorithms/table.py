"""The one table of algorithms: it drives dispatch, ``list``, help, tests and documentation.

It only collects what each algorithm's file says. The plain name is the topology-aware form; ``textbook_…`` is the same
algorithm in the order of ranks, as textbooks print it: the baseline. ``name:option`` sets an option, for instance
``recursive_doubling:direct`` (the way of the reordering), ``bruck:radix=4``, ``bruck:radix=64/2`` (a radix per level,
nearest first) or ``textbook_pat:aggregate=8`` (at most 8 blocks a message).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from types import MappingProxyType

from topocomm.algorithms.entry import Algorithm
from topocomm.algorithms.options import Options, parse_name
from topocomm.collectives import COLLECTIVES, find_collective
from topocomm.errors import AlgorithmError
from topocomm.schedule import Schedule
from topocomm.schedule.transfers import Transfers, list_transfers
from topocomm.topology import Topology

__all__ = [
    "OURS",
    "RIVALS",
    "TABLE",
    "Options",
    "check_ranks",
    "check_whole",
    "collect",
    "find",
    "make_schedule",
    "parse_name",
    "transfers",
]

OURS = (
    "recursive_doubling",
    "binomial",
    "knomial",
    "rabenseifner",
    "scatter_allgather",
    "recursive_halving",
    "bruck",
    "circulant",
    "pairwise",
    "scattered",
    "shuffled",
    "pipeline",
    "ring",
    "kport",
    "direct",
    "leveled",
    "k_trees",
    "two_trees",
    "reduce_then_scatter",
    "prefix_doubling",
    "dissemination",
)
"""Names of our files, in the order in which ``list`` prints their plain forms; textbook forms follow."""
RIVALS = (
    "bine",
    "swing",
    "sparbit",
    "pat",
    "recexch",
    "multilane",
)
"""Names of the files of published rivals, which ``list`` prints after ours."""


def collect(*groups: Iterable[Iterable[Algorithm]]) -> Mapping[str, Mapping[str, Algorithm]]:
    """Make the table: collective → name → algorithm. In each group of files the plain forms stand before the others.

    The schedules of a reduce_scatter are those of a reduce_scatter_block, too. Raises AlgorithmError if two algorithms
    of a collective have one name.
    """
    table: dict[str, dict[str, Algorithm]] = {collective: {} for collective in COLLECTIVES}
    for group in groups:
        entries = [entry for file in group for entry in file]
        for entry in sorted(entries, key=lambda entry: entry.baseline):
            collectives = [entry.collective]
            if entry.collective == "reduce_scatter":
                collectives.append("reduce_scatter_block")
            for collective in collectives:
                if entry.name in table[collective]:
                    raise AlgorithmError(f"two {collective} algorithms are called {entry.name!r}; rename one")
                table[collective][entry.name] = replace(entry, collective=collective)
    return MappingProxyType({collective: MappingProxyType(entries) for collective, entries in table.items()})


def _entries(package: str, files: Iterable[str]) -> list[tuple[Algorithm, ...]]:
    return [import_module(f"{package}.{name}").ENTRIES for name in files]


TABLE: Mapping[str, Mapping[str, Algorithm]] = collect(
    _entries("topocomm.algorithms", OURS), _entries("topocomm.algorithms.rivals", RIVALS)
)
"""Collective → name → algorithm."""


def _having(option: str) -> str:
    """Name the algorithms that have an option."""
    return ", ".join(sorted({a.name for entries in TABLE.values() for a in entries.values() if getattr(a, option)}))


def find(collective: str, text: str) -> tuple[Algorithm, Options]:
    """Find the algorithm called ``name`` or ``name:options``. Raises AlgorithmError if it, or an option, is unknown."""
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


def check_ranks(algorithm: Algorithm, p: int) -> None:
    """Raise AlgorithmError if the algorithm cannot run on p ranks."""
    if not algorithm.can_run(p):
        others = [name for name, a in TABLE[algorithm.collective].items() if not a.power_of_two]
        raise AlgorithmError(
            f"{algorithm.collective} algorithm {algorithm.name!r} needs a power of two of ranks, the communicator has "
            f"{p}; use one of: {', '.join(others)}, native"
        )


def check_whole(algorithm: Algorithm) -> None:
    """Raise AlgorithmError if the algorithm cuts vectors."""
    if not algorithm.whole:
        others = [name for name, a in TABLE[algorithm.collective].items() if a.whole]
        raise AlgorithmError(
            f"{algorithm.collective} algorithm {algorithm.name!r} cuts vectors, and an operation of the program's own "
            "may need them whole; declare it with topocomm.elementwise(op) if it works on every element by itself, or "
            f"use one of: {', '.join(others)}, native"
        )


def _able(collective: str, text: str, topology: Topology, root: int) -> tuple[Algorithm, Options]:
    algorithm, options = find(collective, text)
    check_ranks(algorithm, topology.size)
    if not 0 <= root < topology.size:
        raise AlgorithmError(f"root {root} is not a rank; the communicator has {topology.size}")
    return algorithm, options


def make_schedule(collective: str, text: str, topology: Topology, root: int = 0, ordered: bool = False) -> Schedule:
    """Make the schedule of ``collective`` by the algorithm called ``text`` on ``topology``.

    ``ordered`` asks that operands be combined in the order of ranks, for operations that are not commutative.
    Raises AlgorithmError for an unknown name, an option it has not, a number of ranks that it cannot run on, or if it
    cannot keep the order of operands.
    """
    algorithm, options = _able(collective, text, topology, root)
    schedule = algorithm.form.build(topology, root, replace(options, ordered=ordered))
    if ordered and not schedule.in_order:
        others = [name for name, a in TABLE[collective].items() if a.in_order and name != algorithm.name]
        raise AlgorithmError(
            f"{collective} algorithm {text!r} does not combine operands in the order of ranks"
            f"{' here' if algorithm.in_order else ''}, which an operation that is not commutative needs; "
            f"use one of: {', '.join(others)}, native"
        )
    return replace(schedule, collective=collective, algorithm=text)


def transfers(collective: str, text: str, topology: Topology, root: int = 0) -> Transfers:
    """List all messages of ``collective`` by the algorithm called ``text`` on ``topology``, for all ranks at once.

    Raises AlgorithmError as :func:`make_schedule` does.
    """
    algorithm, options = _able(collective, text, topology, root)
    if algorithm.form.bulk is None or options.way == "exchange":  # which adds a message
        return list_transfers(make_schedule(collective, text, topology, root))
    return algorithm.form.bulk(topology, root, options)
