"""How often the automatic choice is ours on job placements of two real machines, one rank a node, machine assumed.

    python -m bench.studies.job_choice [-n JOBS]

For every machine the first JOBS jobs of each size class of 8 to 64 nodes, every collective and three sizes: what the
model chooses, how much longer the other side takes, and what would be chosen if the engine cost nothing, so that what
is left to the MPI library is split into what costs and what schedules decide. Nothing is measured: both times are
modelled. Tables go to stdout, figures to ``bench/results/job_choice.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from typing import Any

from bench.record import keep
from bench.studies.job_placements import jobs
from topocomm.choose.modelled import TIE, Chooser
from topocomm.collectives import COLLECTIVES, PREFIXES
from topocomm.engines.costs import COSTS, Costs
from topocomm.topology import Topology

SIZES = (8 << 10, 256 << 10, 4 << 20)
CLASSES = ((8, 15), (16, 31), (32, 64))


def chosen_jobs(most: int) -> list[tuple[str, Topology]]:
    """The first ``most`` jobs of every machine and class of sizes that span several groups."""
    taken: dict[tuple[str, tuple[int, int]], int] = defaultdict(int)
    out = []
    for machine, topology in jobs():
        for span in CLASSES:
            if span[0] <= topology.size <= span[1] and topology.has_distance and taken[machine, span] < most:
                taken[machine, span] += 1
                out.append((machine, topology))
    return out


def rows_of(machine: str, topology: Topology) -> list[dict[str, Any]]:
    """One row a collective and size."""
    chooser, costless, rows = Chooser(topology), Chooser(topology), []
    costless.costs = Costs(0.0, 0.0, 0.0)
    for collective in COLLECTIVES:
        if collective in ("barrier", *PREFIXES):
            continue
        for nbytes in SIZES:
            choice = chooser.choose(collective, nbytes)
            row: dict[str, Any] = {"machine": machine, "nodes": topology.size, "collective": collective}
            row |= {"bytes": nbytes, "ours": choice.is_ours, "algorithm": choice.algorithm, "library": choice.library}
            row["native_over_ours"] = round(choice.library_seconds / choice.seconds, 4)
            free = costless.choose(collective, nbytes)
            row["native_over_costless"] = round(free.library_seconds / free.seconds, 4)
            rows.append(row)
    return rows


def shares_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the shares of choices that are ours, that costs alone leave to the MPI library, and that schedules do."""
    free = [row["native_over_costless"] for row in rows]
    native = [x for row, x in zip(rows, free, strict=True) if not row["ours"]]
    shares = {
        "ours": sum(row["ours"] for row in rows),
        "native for what the engine costs": sum(x * (1 + TIE) >= 1 for x in native),
        "native, the library's schedule faster": sum(x * (1 + TIE) < 1 for x in native),
    }
    return {name: round(number / len(rows), 4) for name, number in shares.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="how often the automatic choice is ours on real jobs")
    parser.add_argument("-n", dest="most", type=int, default=4)
    args = parser.parse_args()
    rows = [row for machine, topology in chosen_jobs(args.most) for row in rows_of(machine, topology)]
    print("| collective | bytes | choices | ours | native over ours, median | of a costless engine |")
    print("|---|--:|--:|--:|--:|--:|")
    for collective in dict.fromkeys(row["collective"] for row in rows):
        for nbytes in SIZES:
            mine = [row for row in rows if (row["collective"], row["bytes"]) == (collective, nbytes)]
            ours = sum(row["ours"] for row in mine)
            medians = (statistics.median(row[f"native_over_{x}"] for row in mine) for x in ("ours", "costless"))
            columns = " | ".join(f"{median:.2f}" for median in medians)
            print(f"| {collective} | {nbytes} | {len(mine)} | {100 * ours / len(mine):.0f} % | {columns} |")
    shares = shares_of(rows)
    print(f"{len(rows)} choices:", *(f"{name} {100 * share:.1f} %" for name, share in shares.items()), sep="\n  ")
    costs = COSTS["c"]
    engine = {"call": costs.call, "message": costs.message, "reduced": costs.reduced}
    keep("job_choice", {"engine_costs": engine, "tie": TIE, "shares": shares, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
