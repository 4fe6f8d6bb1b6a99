"""Calls on Python objects beside mpi4py's own, and beside the time of pickling alone.

    mpiexec -n 2 python -m bench.objects [--level single|multiple] [--json objects_mpich]
    python -m bench.cluster … python -m bench.objects --json objects_hosts16_mpich

Every figure is rank 0's fastest block, as noise only ever adds; microseconds a call. ``pickling``: one rank's pickling
and unpickling in the call, where all objects are pickled.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable
from time import perf_counter
from typing import Any

from mpi4py import MPI

import topocomm
from bench.node import fastest, show, timed  # first: it reads --level before MPI starts
from bench.record import keep
from topocomm.cli.provenance import versions

PAIR = ("a", 3)
RECORD = {"name": "x" * 40, "size": [1, 2, 3, 4], "time": 1.5}
"""About 100 bytes when pickled."""
TEXT = "x" * 20_000
CALLS: dict[str, tuple[Callable[[Any], object], object, str]] = {
    "barrier": (lambda c: c.barrier(), None, ""),
    "allreduce(1.5)": (lambda c: c.allreduce(1.5), 1.5, "allreduce"),
    "allreduce(1.5, MAX)": (lambda c: c.allreduce(1.5, MPI.MAX), 1.5, "allreduce"),
    "allreduce(3)": (lambda c: c.allreduce(3), 3, "allreduce"),
    "allreduce([1, 2])": (lambda c: c.allreduce([1, 2]), [1, 2], "allreduce"),
    "allgather(('a', 3))": (lambda c: c.allgather(PAIR), PAIR, "allgather"),
    "allgather(record)": (lambda c: c.allgather(RECORD), RECORD, "allgather"),
    "bcast(record)": (lambda c: c.bcast(RECORD), RECORD, "bcast"),
    "bcast(text)": (lambda c: c.bcast(TEXT), TEXT, "bcast"),
    "gather(('a', 3))": (lambda c: c.gather(PAIR), PAIR, "gather"),
    "reduce(3)": (lambda c: c.reduce(3), 3, "reduce"),
}


def pickling(value: object, reads: int) -> float:
    """Return the microseconds of writing a value once and reading it ``reads`` times: the fastest block."""
    best, data = float("inf"), pickle.dumps(value)
    for _ in range(50):
        start = perf_counter()
        for _ in range(1000):
            pickle.dumps(value)
        middle = perf_counter()
        for _ in range(1000):
            pickle.loads(data)
        best = min(best, (middle - start) + (perf_counter() - middle) * reads)
    return round(best * 1e3, 4)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--level", choices=("single", "multiple"), default="multiple")
    parser.add_argument("--json", metavar="NAME", help="keep the figures in bench/results/NAME.json")
    options = parser.parse_args()
    plain, rows = MPI.COMM_WORLD, []
    wrapped = topocomm.Comm(plain)
    for name, (call, value, kind) in CALLS.items():
        call(wrapped)
        us = fastest(plain, {"ours": timed(call, wrapped), "mpi4py": timed(call, plain)})
        reads = plain.size if kind in ("allgather", "gather") else 1
        alone = pickling(value, reads) if kind and plain.rank == 0 else 0.0
        rows.append({"call": name, **us, "pickling": alone, "ratio": round(us["mpi4py"] / us["ours"], 2)})
        show(name, us["ours"], us["mpi4py"], us["mpi4py"] / us["ours"], alone)
    if options.json and plain.rank == 0:
        facts = {"ranks": plain.size, "thread level": options.level, "libraries": versions(), "unit": "microseconds"}
        keep(options.json, {**facts, "calls": rows})


if __name__ == "__main__":
    main()
