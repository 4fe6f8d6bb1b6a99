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
TARGET_MS, TARGET_MIB = 50, 16


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
    print(f"kept {keep('scale', what)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
