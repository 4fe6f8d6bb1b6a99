"""8 bytes one way from Python under several MPI libraries, in turns: a put beside the fastest of their messages.

    python -m bench.rma.in_turns .venv-mpich/bin/python .venv-openmpi/bin/python …   # one Python for each MPI library

Each turn is a short job of ``python -m bench.rma.put_notify put_latency`` under every library, so that all see the same
minutes; kept in bench/results/rma_in_turns.json.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from bench.cluster import detect_mpi, find_mpiexec
from bench.record import keep
from bench.rma.put_latency import job

SIZE = 8


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {detect_mpi(find_mpiexec(python)): [] for python in args.pythons}
    for _ in range(args.turns):
        for python, rows in zip(args.pythons, found.values(), strict=True):
            rows.extend(job(SIZE, python)["rows"])
    us = {
        mpi: {way: [row[way] for row in rows] for way in ("notified", "send")} for mpi, rows in found.items()
    }  # every turn's
    middle = {mpi: {way: round(statistics.median(times), 3) for way, times in ways.items()} for mpi, ways in us.items()}
    fastest = min(middle[mpi]["send"] for mpi in middle)
    ratios = {mpi: round(fastest / ways["notified"], 3) for mpi, ways in middle.items()}
    print(middle, "fastest message over put:", ratios)
    keep(
        "rma_in_turns",
        {"command": f"python -m bench.rma.in_turns PYTHON … --turns {args.turns}", "size": SIZE, "unit": "us one way",
         "median": middle, "fastest_message_per_put": ratios, "turns": us},
    )  # fmt: skip


if __name__ == "__main__":
    main()
