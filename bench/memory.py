"""Memory of communicators that come and go, and of one communicator that makes many different calls.

    mpiexec -n 2 python -m bench.memory [--json memory_mpich]

For calls through memory of the host (``shared``), through programs in C (``ring``), and the MPI library's own
(``native``): what rank 0 has of its own (``RssAnon``) and shares (``RssShmem``), its memory maps and descriptors,
after some and after all of 1,000 communicators made and freed, each for three calls, and after 1,000 different pairs of
calls on one communicator. ``held`` is what each of 100 communicators adds while all are there.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

import topocomm
from bench.record import keep
from topocomm.cli.provenance import versions

WAYS = ("shared", "ring", "native")
POINTS = (10, 250, 500, 1000)
"""Communicators or calls after which memory is looked at."""
HELD = 100
"""Communicators that are there at the same time."""


def memory() -> dict[str, int]:
    """Return what the process holds: KiB of its own and shared, maps, descriptors."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    found = {name: int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1]) for name in ("RssAnon", "RssShmem")}  # type: ignore[index]
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    return {
        "own_kib": found["RssAnon"],
        "shared_kib": found["RssShmem"],
        "maps": maps,
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def calls(comm: MPI.Intracomm, n: int) -> None:
    """Make three calls: of n elements, of 2000 more, and a barrier."""
    for length in (n, n + 2000):
        y = np.zeros(length)
        comm.Allreduce(np.ones(length), y)
        assert y[-1] == comm.Get_size()
    comm.Barrier()


def after(points: tuple[int, ...], step: Callable[[int], None]) -> Iterator[dict[str, int]]:
    """Take steps; yield the memory after some of them."""
    for i in range(1, points[-1] + 1):
        step(i)
        if i in points:
            yield {"after": i, **memory()}


def come_and_go(comm: topocomm.Comm) -> list[dict[str, int]]:
    """Make and free communicators."""

    def one(_: int) -> None:
        child = comm.Dup()
        calls(child, 7)
        child.Free()

    return list(after(POINTS, one))


def held(comm: topocomm.Comm) -> dict[str, float]:
    """Return what each of many communicators adds while all are there."""
    before = memory()
    children = [comm.Dup() for _ in range(HELD)]
    for child in children:
        calls(child, 7)
    now = memory()
    for child in children:
        child.Free()
    return {key: round((now[key] - before[key]) / HELD, 1) for key in now}


def main() -> None:
    """Count, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", metavar="NAME", help="keep the figures in bench/results/NAME.json")
    options = parser.parse_args()
    world, rows = MPI.COMM_WORLD, []
    one_node = topocomm.Topology(("node",), [["n"]] * world.size)
    for way in WAYS:
        algorithm = {name: way for name in ("allreduce", "barrier") if way != "ring" or name == "allreduce"}
        comm = topocomm.Comm(world.Dup(), topology=one_node, algorithm=algorithm)
        calls(comm, 7)
        row: dict[str, Any] = {"way": way, "come_and_go": come_and_go(comm), "held": held(comm)}
        row["different_calls"] = list(after(POINTS, lambda i, comm=comm: calls(comm, i)))  # type: ignore[misc]
        rows.append(row)
        if world.rank == 0:
            for key, value in row.items():
                print(key, *(value if isinstance(value, list) else [value]), sep="\n    ", flush=True)
        comm.Free()
    if options.json and world.rank == 0:
        keep(options.json, {"ranks": world.size, "libraries": versions(), "figures": rows})


if __name__ == "__main__":
    main()
