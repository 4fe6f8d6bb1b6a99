"""How often the automatic choice is ours on job placements of two real machines, one rank a node, machine assumed.

    python -m bench.studies.job_choice [-n JOBS]

For every machine the first JOBS jobs of each size class of 8 to 64 nodes, every collective and three sizes: what the
model chooses, and how much longer the other side takes. Nothing is measured: both times are modelled, ours with the
costs of the engine. Tables go to stdout, figures to ``bench/results/job_choice.json``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from typing import Any

from bench.record import keep
from bench.studies.job_placements import jobs
from topocomm.choose.modelled import Chooser
from topocomm.collectives import COLLECTIVES, PREFIXES
from topocomm.engines.costs import COSTS
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
    chooser, rows = Chooser(topology), []
    for collective in COLLECTIVES:
        if collective in ("barrier", *PREFIXES):
            continue
        for nbytes in SIZES:
            choice = chooser.choose(collective, nbytes)
            row: dict[str, Any] = {"machine": machine, "nodes": topology.size, "collective": collective}
            row |= {"bytes": nbytes, "ours": choice.is_ours, "algorithm": choice.algorithm, "library": choice.library}
            row["native_over_ours"] = round(choice.library_seconds / choice.seconds, 4)
            rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="how often the automatic choice is ours on real jobs")
    parser.add_argument("-n", dest="most", type=int, default=4)
    args = parser.parse_args()
    rows = [row for machine, topology in chosen_jobs(args.most) for row in rows_of(machine, topology)]
    print("| collective | bytes | choices | ours | native over ours, median |")
    print("|---|--:|--:|--:|--:|")
    for collective in dict.fromkeys(row["collective"] for row in rows):
        for nbytes in SIZES:
            mine = [row for row in rows if (row["collective"], row["bytes"]) == (collective, nbytes)]
            ours, ratio = sum(row["ours"] for row in mine), statistics.median(row["native_over_ours"] for row in mine)
            print(f"| {collective} | {nbytes} | {len(mine)} | {100 * ours / len(mine):.0f} % | {ratio:.2f} |")
    share = sum(row["ours"] for row in rows) / len(rows)
    print(f"Ours in {100 * share:.1f} % of {len(rows)} choices.")
    costs = COSTS["c"]
    engine = {"call": costs.call, "message": costs.message, "reduced": costs.reduced}
    keep("job_choice", {"engine_costs": engine, "share_ours": round(share, 4), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
