"""Time and memory of one rank's schedule at 65,536 ranks on several machines.

    python -m bench.scale [-r REPEATS]

Everything is counted that a rank does when it meets a topology for the first time: orders, layout and its own part.
Prints a Markdown table; the figures go to ``bench/results/scale.json``. ``cpu`` is the process's own time, which other
work on the machine lengthens less than the time on the clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from bench.record import keep
from topocomm.algorithms import make_schedule
from topocomm.collectives import COLLECTIVES
from topocomm.plan.bind import bind
from topocomm.schedule.blocks import block_cuts
from topocomm.topology import Topology, dragonfly, groups_of, reorder_ranks, two_level

RANKS = 65536
MACHINES: dict[str, Callable[[], Topology]] = {
    "equals": lambda: Topology.flat(RANKS),
    "1024 nodes of 64": lambda: two_level(1024, 64),
    "dragonfly 32 x 16 x 16 x 8": lambda: dragonfly(32, 16, 16, 8),
    "dragonfly 32 x 16 x 16 x 8, shuffled": lambda: reorder_ranks(dragonfly(32, 16, 16, 8), "random:1"),
    "groups of 25536, 20000, 15000, 5000": lambda: groups_of([25536, 20000, 15000, 5000]),
}
ALGORITHMS = (
    ("allreduce", "rabenseifner"),
    ("allreduce", "recursive_doubling"),
    ("allgather", "recursive_doubling"),
    ("allgather", "bruck"),
)
USUAL = {
    "allreduce": "rabenseifner",
    "allgather": "recursive_doubling",
    "reduce_scatter": "recursive_halving",
    "reduce_scatter_block": "recursive_halving",
    "alltoall": "scattered",
    "bcast": "scatter_allgather",
    "reduce": "rabenseifner",
    "gather": "binomial",
    "scatter": "binomial",
    "scan": "prefix_doubling",
    "exscan": "prefix_doubling",
}
TARGET_MS, TARGET_MIB = 50, 16
PROGRAM_RANKS: dict[int, tuple[int, int]] = {64: (8, 8), 1024: (64, 16), 4096: (128, 32)}
PROGRAM_TARGET_MS = {64: 2, 1024: 10, 4096: 40}
SIZE_TARGET_MS = 0.1


def fresh(topology: Topology) -> Topology:
    """The same topology with nothing remembered."""
    out = object.__new__(Topology)
    known = ("levels", "size", "labels", "places")
    out.__dict__.update({name: getattr(topology, name) for name in known})
    return out


def measure(collective: str, algorithm: str, topology: Topology, repeats: int) -> dict[str, Any]:
    """Median and least time in milliseconds, peak memory in MiB."""
    clock, cpu = [], []
    for _ in range(repeats):
        again = fresh(topology)
        start = time.perf_counter(), time.process_time()
        make_schedule(collective, algorithm, again).part(12345)
        clock.append(1e3 * (time.perf_counter() - start[0]))
        cpu.append(1e3 * (time.process_time() - start[1]))
    again = fresh(topology)
    tracemalloc.start()
    make_schedule(collective, algorithm, again).part(12345)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figures = {"clock_ms": statistics.median(clock), "cpu_ms": statistics.median(cpu), "least_cpu_ms": min(cpu)}
    return {**{k: round(v, 1) for k, v in figures.items()}, "peak_mib": round(peak / 2**20, 1)}


def least(action: Callable[[], object], repeats: int) -> float:
    """Return the least processor time of an action in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time_ns()
        action()
        times.append(time.process_time_ns() - start)
    return min(times) / 1e6


def measure_program(collective: str, algorithm: str, ranks: int, repeats: int) -> dict[str, Any]:
    """Least processor time of a rank's program, part of the schedule included, and of a further size of it."""
    schedule = make_schedule(collective, algorithm, two_level(*PROGRAM_RANKS[ranks]))
    rank = ranks // 3
    program = bind(schedule, rank)
    whole = collective in ("allreduce", "bcast", "reduce")
    counts = block_cuts(100_003, program.nslots)[1:] - block_cuts(100_003, program.nslots)[:-1] if whole else 100
    made = least(lambda: bind(schedule, rank), repeats)
    sized = least(lambda: program.cuts(program.slot_bytes(counts, 8)), max(repeats, 20))
    what = {"ranks": ranks, "collective": collective, "algorithm": algorithm, "steps": len(program.steps)}
    return {**what, "program_ms": round(made, 2), "size_ms": round(sized, 4)}


def programs(repeats: int) -> list[dict[str, Any]]:
    """Measure the default algorithm of every collective, and rings."""
    rows = []
    print("| ranks | collective | algorithm | steps | program ms | size ms |")
    print("|--:|---|---|--:|--:|--:|")
    for ranks in PROGRAM_RANKS:
        defaults = [(name, USUAL[name]) for name in COLLECTIVES if name != "barrier"]
        for collective, algorithm in (*defaults, ("allreduce", "ring"), ("allgather", "ring")):
            figures = measure_program(collective, algorithm, ranks, repeats)
            rows.append(figures)
            print(f"| {' | '.join(str(v) for v in figures.values())} |", flush=True)
    missed = [r for r in rows if r["program_ms"] > PROGRAM_TARGET_MS[r["ranks"]]]
    late = [r for r in rows if r["ranks"] == 64 and r["size_ms"] > SIZE_TARGET_MS]
    print(f"Programs within {PROGRAM_TARGET_MS} ms: {len(rows) - len(missed)} of {len(rows)}; missed:", missed)
    print(f"A further size at 64 ranks within {SIZE_TARGET_MS} ms: all but {len(late)}")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="time and memory of one rank's schedule at 65,536 ranks")
    parser.add_argument("-r", dest="repeats", type=int, default=15)
    args = parser.parse_args()
    rows = []
    print("| machine | collective | algorithm | clock ms | cpu ms | least cpu ms | peak MiB |")
    print("|---|---|---|--:|--:|--:|--:|")
    for name, make in MACHINES.items():
        topology = make()
        for collective, algorithm in ALGORITHMS:
            figures = measure(collective, algorithm, topology, args.repeats)
            rows.append({"machine": name, "collective": collective, "algorithm": algorithm, **figures})
            print(f"| {name} | {collective} | {algorithm} | {' | '.join(map(str, figures.values()))} |", flush=True)
    missed = [r for r in rows if r["cpu_ms"] > TARGET_MS or r["peak_mib"] > TARGET_MIB]
    print(f"Within {TARGET_MS} ms and {TARGET_MIB} MiB: {len(rows) - len(missed)} of {len(rows)}.")
    what = {"ranks": RANKS, "repeats": args.repeats, "target_ms": TARGET_MS, "target_mib": TARGET_MIB, "figures": rows}
    what["programs"] = programs(args.repeats)
    print(f"kept {keep('scale', what)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
