"""The PowerLLEL mini-app on emulated hosts: all ways to communicate take turns, step by step, in one job.

    python -m bench.powerllel --link 100mbit --cells 64,64,64 --steps 12

Seconds of a step are those of the slowest rank; all ways must give the same bits. Kept in
bench/results/powerllel_<mpi>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.calm import busy_share
from bench.cluster import Cluster, ClusterError, detect_mpi, find_mpiexec, reported
from bench.record import ROOT, keep

APP = ROOT / "examples" / "powerllel"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--racks", type=int, default=4)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--link", default="100mbit", help="rate of host links; uplinks have that of a rack's links")
    parser.add_argument("--uplink", default="400mbit")
    parser.add_argument("--cells", default="64,64,64")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12, help="of each way, in turns")
    parser.add_argument(
        "--ways", default="blocking,pipelined,persistent,pscw,flush,notified,notified-messages,topocomm"
    )
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(options: argparse.Namespace) -> None:
    """One rank: make a flow for every way, step them in turns."""
    from mpi4py import MPI

    sys.path.insert(0, str(APP))
    from flow import Case, Flow  # type: ignore[import-not-found]
    from process_grid import ProcessGrid  # type: ignore[import-not-found]

    world = MPI.COMM_WORLD
    case = Case(tuple(map(int, options.cells.split(","))))
    grids = {way: ProcessGrid(world, options.rows, way, ["e0"]) for way in options.ways.split(",")}
    flows = {way: Flow(grid, case) for way, grid in grids.items()}
    for flow in flows.values():
        flow.step()  # not timed: first calls set things up
        flow.timings.seconds.clear()
    samples: dict[str, list[float]] = {way: [] for way in flows}
    for _ in range(options.steps):
        for way, flow in flows.items():
            world.Barrier()
            start = MPI.Wtime()
            flow.step()
            samples[way].append(world.allreduce(MPI.Wtime() - start, MPI.MAX))
    phases = {way: _phases(flow, world, options.steps) for way, flow in flows.items()}
    fields = {way: flow.gathered() for way, flow in flows.items()}
    divergence = max(flow.largest_divergence() for flow in flows.values())
    for grid in grids.values():
        grid.close()
    if world.rank == 0:
        first = next(iter(fields.values()))
        alike = all(np.array_equal(first, other) for other in fields.values())
        document = {"samples_s": samples, "phases_s": phases, "same_bits": alike, "divergence": divergence}
        options.worker.write_text(json.dumps(document))


def _phases(flow: Any, world: Any, steps: int) -> dict[str, float]:
    return {name: world.allreduce(s, max) / steps for name, s in sorted(flow.timings.seconds.items())}


def study(options: argparse.Namespace) -> None:
    """Run the job, keep what it measured, print the table."""
    mpi = detect_mpi(find_mpiexec(sys.executable))
    with Cluster(options.racks, options.hosts, link=options.link, uplink=options.uplink) as cluster:
        out = cluster.scratch / "out.json"
        program = [sys.executable, "-m", "bench.powerllel", "--worker", str(out), "--rows", str(options.rows)]
        program += ["--cells", options.cells, "--steps", str(options.steps), "--ways", options.ways]
        busy = busy_share()
        env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = cluster.mpiexec(program, timeout=850, capture=True, env=env)
        if done.returncode:
            raise ClusterError(f"return code {done.returncode}\n{done.stdout}{done.stderr}")
        found: dict[str, Any] = json.loads(out.read_text())
    shape = {key: getattr(options, key) for key in ("racks", "hosts", "link", "uplink", "cells", "rows")}
    for samples in found["samples_s"].values():
        samples[:] = [round(sample, 5) for sample in samples]
    keep(f"powerllel_{mpi}", {"mpi": mpi, "shape": shape, "busy_before": busy, **found})
    print(f"same bits: {found['same_bits']}; largest divergence: {found['divergence']:.1e}")
    blocking = statistics.median(found["samples_s"]["blocking"])
    for way, samples in found["samples_s"].items():
        pairs = [a / b for a, b in zip(samples, found["samples_s"]["blocking"], strict=True)]
        middle = statistics.median(samples)
        solver = found["phases_s"][way]["Poisson solver"]
        print(f"{way:20}{1e3 * middle:10.1f} ms a step{100 * (statistics.median(pairs) - 1):+8.1f} % to blocking"
              f"   Poisson solver {1e3 * solver:8.1f} ms")  # fmt: skip
    print(f"blocking: {1e3 * blocking:.1f} ms a step")


def main() -> int:
    options = parse_arguments()
    if options.worker:
        worker(options)
        return 0
    return reported("powerllel", lambda: study(options))


if __name__ == "__main__":
    sys.exit(main())
