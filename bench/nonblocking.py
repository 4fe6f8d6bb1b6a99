"""Calls that are waited for later: persistent and non-blocking ones from Python, and what they hide behind computing.

    mpiexec -n 2 python -m bench.nonblocking [--size 8] [--json bench/results/nonblocking_mpich.json]

Part 1: µs of ``Start`` + ``Wait`` of a persistent allreduce, of ``Iallreduce`` + ``Wait`` and of ``Allreduce``, ours
beside the MPI library's own: A B A B … blocks, the least of each; the buffers change between calls.

Part 2: overlap as the OSU Micro-Benchmarks have it: ``Iallreduce``, computing for as long as the call alone takes, then
``Wait``. Overall, compute and call in µs, and the share of the call that is hidden, ours and the library's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI

import topocomm
from bench.record import keep

CALLS, BLOCKS = 2000, 15
Call = Callable[[], object]


def forms(comm: MPI.Intracomm, n: int) -> dict[str, Call]:
    """Return calls of ``n`` doubles by form."""
    given, got = np.full(n, comm.rank + 1.0), np.zeros(n)
    again = comm.Allreduce_init(given, got)

    def persistent() -> None:
        given[0] += 1
        again.Start()
        again.Wait()

    def nonblocking() -> None:
        given[0] += 1
        comm.Iallreduce(given, got).Wait()

    def blocking() -> None:
        given[0] += 1
        comm.Allreduce(given, got)

    return {"persistent": persistent, "nonblocking": nonblocking, "blocking": blocking}


def changing(n: int) -> Call:
    """Return the change of a buffer between calls alone, which is taken off."""
    given = np.full(n, 1.0)

    def change() -> None:
        given[0] += 1

    return change


def per_call_us(call: Call, calls: int) -> float:
    """Return µs a call over one block."""
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / calls * 1e6


def latencies(world: MPI.Intracomm, ours: topocomm.Comm, n: int) -> dict[str, dict[str, float]]:
    """Return the least µs of each form: of topocomm and of the MPI library, in turns."""
    contenders = {"topocomm": forms(ours, n), "library": forms(world, n)}
    found = {name: dict.fromkeys(calls, float("inf")) for name, calls in contenders.items()}
    change = min(per_call_us(changing(n), CALLS) for _ in range(BLOCKS))
    for _ in range(BLOCKS):
        for name, calls in contenders.items():
            for form, call in calls.items():
                world.Barrier()
                found[name][form] = min(found[name][form], per_call_us(call, CALLS) - change)
    return found


def compute(seconds: float) -> None:
    """Compute in NumPy, without calls of MPI, for so long."""
    x, end = np.full(4096, 1.000001), perf_counter() + seconds
    while perf_counter() < end:
        np.multiply(x, x, out=x)
        x[:] = 1.000001


def overlap(world: MPI.Intracomm, comm: MPI.Intracomm, n: int, repeats: int = 20) -> dict[str, float]:
    """Return OSU's figures of an allreduce of ``n`` doubles: overall, compute and call in µs, overlap in percent."""
    given, got = np.full(n, 1.0), np.zeros(n)
    comm.Iallreduce(given, got).Wait()

    def once(seconds: float) -> float:
        world.Barrier()
        start = perf_counter()
        request = comm.Iallreduce(given, got)
        compute(seconds)
        request.Wait()
        return perf_counter() - start

    alone = world.allreduce(float(np.median([once(0) for _ in range(repeats)])), MPI.MAX)
    overall = world.allreduce(float(np.median([once(alone) for _ in range(repeats)])), MPI.MAX)
    hidden = max(0.0, 100 - 100 * (overall - alone) / alone)
    return {"overall_us": overall * 1e6, "compute_us": alone * 1e6, "call_us": alone * 1e6, "overlap_percent": hidden}


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=8, help="bytes of the small allreduce")
    parser.add_argument("--large", type=int, default=1 << 20, help="bytes of the one that is hidden")
    parser.add_argument("--json", type=Path, help="file to keep the figures in, in bench/results")
    args = parser.parse_args()
    world = MPI.COMM_WORLD
    ours = topocomm.Comm(world)
    ours.Allreduce(np.zeros(1), np.zeros(1))
    apart = topocomm.Topology(("node",), [[r] for r in range(world.size)])
    programs = topocomm.Comm(world, topology=apart, algorithm={"allreduce": "ring"})
    figures: dict[str, Any] = {
        "mpi": MPI.Get_library_version().split("\n")[0].strip(),
        "thread_level": MPI.Query_thread(),
        "ranks": world.size,
        "size": args.size,
        "latency_us": latencies(world, ours, args.size // 8),
        "large": args.large,
        "overlap": {
            "topocomm, ring": overlap(world, programs, args.large // 8),
            "library": overlap(world, world, args.large // 8),
        },
    }
    if world.rank == 0:
        for part in ("latency_us", "overlap"):
            for name, row in figures[part].items():
                print(part, name, {key: round(value, 2) for key, value in row.items()})
        if args.json:
            keep(args.json.stem, figures)


if __name__ == "__main__":
    main()
