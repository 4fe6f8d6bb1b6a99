"""The choice by closed forms beside the choice by simulation: regret, and the time that a first call takes.

    python -m bench.studies.instant regret [--part NAME]       # parts: fat_tree dragonfly torus assumed jobs
    python -m bench.studies.instant time                       # one process, nothing kept beforehand

Regret is the simulated time of what the closed forms choose over that of what the simulation chooses, less one; where
the MPI library's call is chosen its time is that of the fastest of its algorithms. Parts are kept one by one;
figures go to ``bench/results/instant_regret.json`` and ``instant_time.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.record import RESULTS, keep
from bench.studies.job_choice import chosen_jobs
from topocomm.algorithms import make_schedule
from topocomm.choose.modelled import Chooser
from topocomm.collectives import COLLECTIVES, PREFIXES
from topocomm.model.machine import Machine, dragonfly, fat_tree, torus
from topocomm.plan.bind import bind
from topocomm.topology import Topology, reorder_ranks

SIZES = (1 << 10, 1 << 13, 1 << 16, 1 << 19, 1 << 22, 1 << 26)
ORDERS = ("given", "cyclic", "random:1")
NODES = {8: (8, 1), 16: (4, 4), 64: (64, 1), 256: (64, 4)}
"""Ranks → nodes and ranks of a node, for the machines."""
TIMED = {16: (4, 4), 256: (32, 8), 2048: (256, 8), 65536: (8192, 8)}
TARGET_MS = {16: 3, 256: 10, 2048: 40, 65536: 250}
MEAN, WORST = 0.02, 0.15


def _places(names: tuple[str, str, str], nodes: int, ranks: int) -> Topology:
    return Topology(names, [(n // 16, n // 4 % 4, n % 4) for n in range(nodes) for _ in range(ranks)])


MACHINES: dict[str, Callable[[int, int], tuple[Topology, Machine | None]]] = {
    "fat_tree": lambda n, k: (_places(("pod", "switch", "node"), n, k), fat_tree(4, 4, oversubscription=2.0)),
    "dragonfly": lambda n, k: (_places(("group", "router", "node"), n, k), dragonfly()),
    "torus": lambda n, k: (_places(("dim0", "dim1", "node"), n, k), torus((4, 4, 4))),
    "assumed": lambda n, k: (_places(("group", "switch", "node"), n, k), None),
}


def cases(part: str, ranks: list[int]) -> Iterator[tuple[str, str, Chooser]]:
    """Give part, order and chooser of every placement."""
    if part == "jobs":
        for machine, topology in chosen_jobs(1):
            for order in ORDERS:
                yield machine, order, Chooser(reorder_ranks(topology, order))
        return
    for number in ranks:
        topology, described = MACHINES[part](*NODES[number])
        for order in ORDERS:
            yield part, order, Chooser(reorder_ranks(topology, order), described)


def regret(chooser: Chooser, collective: str, nbytes: int) -> dict[str, Any]:
    """Return what either way chooses, and the regret."""
    chosen, referee = chooser.choose(collective, nbytes), chooser.simulate(collective, nbytes)
    took = chooser.simulated(collective, chosen.algorithm, nbytes) if chosen.is_ours else referee.library_seconds
    best = min(referee.seconds, referee.library_seconds)
    names = {how: c.algorithm if c.is_ours else "native" for how, c in (("instant", chosen), ("simulated", referee))}
    return {"collective": collective, "bytes": nbytes, **names, "regret": round(took / best - 1, 4)}


def study(part: str, ranks: list[int], sizes: list[int]) -> list[dict[str, Any]]:
    """Return one row a placement, collective and size."""
    rows = []
    for name, order, chooser in cases(part, ranks):
        for collective in COLLECTIVES:
            if collective in ("barrier", "reduce_scatter_block", *PREFIXES):
                continue
            for nbytes in sizes:
                place = {"machine": name, "order": order, "ranks": chooser.topology.size}
                rows.append({**place, **regret(chooser, collective, nbytes)})
        print(summary(f"{name}, {chooser.topology.size} ranks, {order}", rows), flush=True)
    return rows


def summary(name: str, rows: list[dict[str, Any]]) -> str:
    """Return mean and worst regret in one line."""
    found = [row["regret"] for row in rows]
    return f"{name}: {len(rows)} choices, regret {100 * statistics.mean(found):.2f} %, worst {100 * max(found):.1f} %"


def keep_part(part: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows of a part beside those of others."""
    path = RESULTS / "instant_regret.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    mine = {(row["machine"], row["ranks"]) for row in rows}
    rows = [row for row in before if (row["machine"], row["ranks"]) not in mine] + rows
    found = [row["regret"] for row in rows]
    figures = {"mean": round(statistics.mean(found), 4), "worst": max(found)}
    keep("instant_regret", {"targets": {"mean": MEAN, "worst": WORST}, **figures, "rows": rows})


def first_call(ranks: int, collective: str, repeats: int) -> dict[str, Any]:
    """Return the least processor time (ms) of a first choice, its schedule and program, and of a further choice."""
    nodes, each = TIMED[ranks]
    places = [(n // 16, n) for n in range(nodes) for _ in range(each)]
    parts: dict[str, list[float]] = {"choice": [], "schedule": [], "program": [], "further": []}
    for _ in range(repeats):
        chooser = Chooser(Topology(("group", "node"), places))
        moments = [time.process_time()]
        name = chooser.choose(collective, 1 << 16).algorithm
        moments.append(time.process_time())
        schedule = make_schedule(collective, name, chooser.topology)
        moments.append(time.process_time())
        bind(schedule, 0)
        moments.append(time.process_time())
        chooser.choose(collective, 1 << 20)
        moments.append(time.process_time())
        for key, begin, end in zip(parts, moments, moments[1:], strict=False):
            parts[key].append(end - begin)
    row = {key: round(1e3 * min(values), 3) for key, values in parts.items()}
    whole = round(row["choice"] + row["schedule"] + row["program"], 3)
    return {"ranks": ranks, "collective": collective, "algorithm": name, **row, "first": whole}


def measure_times(most: int) -> None:
    """Print and keep the times of first calls."""
    rows = []
    for ranks in (number for number in TIMED if number <= most):
        for collective in ("allreduce", "bcast", "allgather", "reduce_scatter", "alltoall", "reduce", "gather"):
            rows.append(first_call(ranks, collective, 20 if ranks < 1000 else 3))
            print(rows[-1], flush=True)
    keep("instant_time", {"unit": "ms of processor time", "targets": TARGET_MS, "rows": rows})


def main() -> int:
    parser = argparse.ArgumentParser(description="the choice by closed forms beside that by simulation")
    parser.add_argument("what", choices=("regret", "time"))
    parser.add_argument("--part", choices=(*MACHINES, "jobs"), nargs="+", default=[*MACHINES, "jobs"])
    parser.add_argument("--ranks", type=int, choices=NODES, nargs="+", default=list(NODES))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--most", type=int, default=max(TIMED), help="largest number of ranks that is timed")
    args = parser.parse_args()
    if args.what == "time":
        measure_times(args.most)
        return 0
    for part in args.part:
        rows = study(part, args.ranks, args.sizes)
        keep_part(part, rows)
        print(summary(part, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
