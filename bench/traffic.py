"""Bytes between groups, from the schedules: topology-aware algorithms beside textbook forms and the lower bound.

    python -m bench.traffic

Prints one Markdown table a collective: a row for each machine and order of ranks, figures in units of the vector.
Behind the slash stands the busiest directed pair of groups, over its balanced share of the bound. All figures go to
``bench/results/traffic.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bench.record import keep
from topocomm.algorithms import find, make_schedule
from topocomm.model import Traffic, bytes_between, list_messages
from topocomm.topology import Topology, dragonfly, groups_of, reorder_ranks, two_level

MACHINES = {
    "4 groups of 8": two_level(4, 8, "group"),
    "8 groups of 8": two_level(8, 8, "group"),
    "16 groups of 16": two_level(16, 16, "group"),
    "8 groups of 4 routers of 4": dragonfly(8, 4, 4),
    "6 groups of 5": two_level(6, 5, "group"),
    "groups of 7, 1, 13, 5, 2": groups_of([7, 1, 13, 5, 2]),
    "groups of 3, 17, 31, 64, 9": groups_of([3, 17, 31, 64, 9]),
}
ORDERS = ("sorted", "cyclic", "random:1")
ALGORITHMS = {
    "allgather": ("recursive_doubling", "textbook_recursive_doubling", "textbook_bruck", "textbook_ring"),
    "reduce_scatter": ("recursive_halving", "textbook_recursive_halving", "textbook_pairwise"),
    "allreduce": ("rabenseifner", "textbook_rabenseifner", "textbook_recursive_doubling", "textbook_ring"),
}


@dataclass(frozen=True)
class Figure:
    """Traffic between groups of one algorithm on one machine, in units of the vector."""

    collective: str
    machine: str
    ranks: int
    order: str
    algorithm: str
    between: Fraction
    bound: Fraction
    messages: int
    busiest_pair: Fraction
    balanced_pair: Fraction

    def cell(self) -> str:
        """As it stands in the table."""
        return f"{float(self.between):.2f} / {float(self.busiest_pair / self.balanced_pair):.1f}"

    def row(self) -> dict[str, Any]:
        """For JSON: fractions as text, so that nothing is rounded."""
        return {k: str(v) if isinstance(v, Fraction) else v for k, v in vars(self).items()}


def figure(collective: str, machine: str, order: str, algorithm: str) -> Figure | None:
    """Count bytes; None if the algorithm cannot run on this number of ranks."""
    topology: Topology = reorder_ranks(MACHINES[machine], order)
    p, groups = topology.size, len(topology.counts("group"))
    if find(collective, algorithm)[0].power_of_two and p & (p - 1):
        return None
    traffic = Traffic(list_messages(make_schedule(collective, algorithm, topology)), topology)
    bound = bytes_between(collective, topology, "group")
    return Figure(
        collective,
        machine,
        p,
        order,
        algorithm,
        traffic.between("group"),
        bound,
        traffic.messages_between("group"),
        traffic.busiest_pair("group"),
        bound / (groups * (groups - 1)),
    )


def table(collective: str, figures: list[Figure]) -> Iterator[str]:
    """One Markdown table."""
    names = ALGORITHMS[collective]
    yield f"| {collective}: machine | order | bound | {' | '.join(names)} |"
    yield "|---|---|--:|" + "--:|" * len(names)
    for machine in MACHINES:
        for order in ORDERS:
            found = {f.algorithm: f for f in figures if (f.machine, f.order) == (machine, order)}
            cells = " | ".join(found[n].cell() if n in found else "–" for n in names)
            yield f"| {machine} | {order} | {found[names[0]].bound} | {cells} |"


def main() -> int:
    kept: list[Figure] = []
    for collective, names in ALGORITHMS.items():
        cases = [(m, o, n) for m in MACHINES for o in ORDERS for n in names]
        figures = [f for f in (figure(collective, *case) for case in cases) if f]
        print("\n".join(table(collective, figures)), end="\n\n")
        kept += figures
    aware = [f for f in kept if not f.algorithm.startswith("textbook_")]
    missed = [f for f in aware if f.between != f.bound]
    print(f"Topology-aware figures that equal the bound: {len(aware) - len(missed)} of {len(aware)}.")
    print(f"kept {keep('traffic', {'units': 'vectors between groups', 'figures': [f.row() for f in kept]})}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
