"""A put through the window beside a prepared plan, the library's messages, and its put, flush and flag, in turns.

    mpiexec -n 2 python -m bench.rma.win

Ping-pong from Python; medians over rounds, in microseconds one way, and each round's time divided by that of the plan;
kept in bench/results/rma_win_<mpi>.json.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from mpi4py import MPI

from bench.cluster import detect_mpi, find_mpiexec
from bench.record import keep
from topocomm import rma
from topocomm.cli import provenance
from topocomm.cli.bench.put_rounds import ROUNDS, Setting, measure_size
from topocomm.cli.bench.put_ways import Flag, Notified, TwoSided, Way, source, wrong

SIZES = (8, 1024, 65536)


class Window(Way):
    """Put_notify and Wait_notify of topocomm.Win; the answer proves the target's part of the window free."""

    name = "win"

    def __init__(self, comm: Any, context: Any, size: int, window: int, buffers: int) -> None:
        self.win = rma.Win.Allocate(size, 1, comm=comm)
        self.peer, self.data, self.memory = 1 - comm.rank, source(size), self.win.tomemory()

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        self.win.Put_notify(self.data, self.peer)

    def receive(self, stamp: int) -> None:
        self.win.Wait_notify()
        if self.memory[0] != stamp & 255:
            wrong(self.name)

    def finish(self) -> None:
        self.win.Free()


def row(setting: Setting, size: int) -> dict[str, Any]:
    """The medians of one size."""
    values = measure_size(setting, size)
    ratios = values.pop("time_per_notified")
    return {"size": size, "us": {name: round(v, 2) for name, v in values.items()}, "time_per_notified": ratios}


def main() -> None:
    """Measure, print, keep."""
    comm = MPI.COMM_WORLD
    if comm.size != 2:
        raise SystemExit(f"needs 2 ranks, got {comm.size}")
    with rma.Context(comm) as context:
        setting = Setting("put_latency", comm, context, [Notified, Window, TwoSided, Flag], 1, 0)
        rows = [row(setting, size) for size in SIZES]
        transport = context.transport(1 - comm.rank)
    if comm.rank == 0:
        about = {"mpi": provenance.mpi_library(), "transport": transport, "rounds": ROUNDS}
        keep(f"rma_win_{detect_mpi(find_mpiexec(sys.executable))}", {**about, "unit": "us one way", "rows": rows})
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
