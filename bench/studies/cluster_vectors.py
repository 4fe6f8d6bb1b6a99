"""Vector forms on the emulated cluster: counts that are skewed, empty or a power law, beside the MPI library's own.

    python -m bench.studies.cluster_vectors --algorithm auto,ring --json cluster_vectors_mpich

One run a placement, all variants by turns in it; a sample is the time of the slowest rank, medians are reported. A size
is that of the whole vector. Run inside the cluster by itself, for one placement, it prints that placement's rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench import cluster
from bench.cluster import Cluster, ClusterError, reported
from bench.record import keep

SHAPES: dict[str, Callable[[int], list[float]]] = {
    "half at one rank": lambda p: [p - 1.0 if r == p // 3 else 1.0 for r in range(p)],
    "every other rank has none": lambda p: [float(r % 2) for r in range(p)],
    "power law": lambda p: [1.0 / (1 + (7 * r) % p) for r in range(p)],
    "equal": lambda p: [1.0] * p,
}
CALLS = ("allgatherv", "reduce_scatter")
SAMPLE_SECONDS = 0.02
"""Short calls are repeated until one sample takes about this long."""


def counts_of(shape: str, p: int, nbytes: int) -> list[int]:
    """Return elements of 8 bytes of every rank, about ``nbytes`` bytes in all."""
    weights = SHAPES[shape](p)
    return [int(nbytes / 8 * weight / sum(weights)) for weight in weights]


def call_of(name: str, comm: Any, counts: list[int]) -> tuple[Callable[[], None], Any]:
    """Return a call and the array that receives."""
    total, rank = sum(counts), comm.rank
    if name == "allgatherv":
        mine, everything = np.arange(counts[rank], dtype="d") + rank, np.zeros(total)
        return (lambda: comm.Allgatherv(mine, [everything, counts])), everything
    given, part = np.arange(total, dtype="d") % 251 + rank, np.zeros(counts[rank])
    return (lambda: comm.Reduce_scatter(given, part, counts)), part


def seconds_of(world: Any, call: Callable[[], None], repeat: int) -> float:
    """Return the seconds of one of ``repeat`` calls on the slowest rank."""
    world.Barrier()
    start = perf_counter()
    for _ in range(repeat):
        call()
    return float(world.allreduce((perf_counter() - start) / repeat, op=max))


def measure(world: Any, variants: Mapping[str, Any], name: str, shape: str, size: int, samples: int) -> dict[str, Any]:
    """Measure one call by all variants, after comparing their results."""
    from bench.compare.measure import crossed

    counts = counts_of(shape, world.size, size)
    calls, results = {}, {}
    for variant, comm in variants.items():
        calls[variant], results[variant] = call_of(name, comm, counts)
        calls[variant]()
        if not world.allreduce(bool((results[variant] == results["native"]).all()), op=min):
            raise SystemExit(f"{name} {shape} of {size} bytes: {variant} gives another result than native")
    over = {variant: crossed(world, call) for variant, call in calls.items()}
    repeat = min(50, 1 + int(SAMPLE_SECONDS / seconds_of(world, calls["native"], 1)))
    taken: dict[str, list[float]] = {variant: [] for variant in calls}
    for _ in range(samples):
        for variant, call in calls.items():
            taken[variant].append(seconds_of(world, call, repeat))
    figures = {
        variant: {"median_ms": round(1e3 * statistics.median(found), 3), "uplink_bytes": over[variant]}
        for variant, found in taken.items()
    }
    return {"call": name, "counts": shape, "size": size, "samples": samples, "variants": figures}


def inside(options: argparse.Namespace, about: Mapping[str, Any]) -> None:
    """Measure everything under one placement; rank 0 writes the rows."""
    from mpi4py import MPI

    from bench.compare.measure import make_variants
    from topocomm.cli.provenance import versions

    world = MPI.COMM_WORLD
    described = {"topology": about["topology"], "machine": about["machine"]}
    variants = make_variants(world, options.algorithm.split(","), **described)
    kinds = [(name, shape) for name in CALLS for shape in SHAPES]
    sizes = [int(size) for size in options.size.split(",")]
    one = partial(measure, world, variants, samples=options.samples)
    rows = [one(name=name, shape=shape, size=size) for name, shape in kinds for size in sizes]
    decided = [str(d) for d in variants["auto"].decisions] if "auto" in variants else []
    facts = {key: about[key] for key in ("racks", "hosts", "links", "uplink", "placement")} | {"libraries": versions()}
    if world.rank == 0 and options.rows:
        options.rows.write_text(json.dumps({**facts, "rows": rows, "decisions": decided}))


def study(options: argparse.Namespace) -> None:
    """Measure every placement on one cluster, print and keep."""
    reports = []
    with Cluster(options.racks, options.hosts, link=options.link, uplink=options.link) as made:
        path = made.scratch / "rows.json"
        for placement in options.placement.split(","):
            program = [sys.executable, "-m", "bench.studies.cluster_vectors", "--rows", str(path)]
            program += ["--algorithm", options.algorithm, "--size", options.size, "--samples", str(options.samples)]
            done = made.mpiexec(program, placement=placement, timeout=options.timeout, capture=True)
            if done.returncode:
                raise ClusterError(f"{placement}: return code {done.returncode}\n{done.stdout}{done.stderr}")
            reports.append(json.loads(path.read_text()))
            for row in reports[-1]["rows"]:
                times = {name: f"{v['median_ms']:9.2f}" for name, v in row["variants"].items()}
                print(f"{placement:10}{row['call']:16}{row['counts']:28}{row['size']:9}", times, flush=True)
            if options.json:
                keep(options.json, {"reports": reports})


def main() -> int:
    """Run the study, or one placement of it inside the cluster."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--racks", type=int, default=4)
    parser.add_argument("--hosts", type=int, default=4, help="hosts per rack")
    parser.add_argument("--link", default="40mbit", help="rate of every link")
    parser.add_argument("--placement", default="block,cyclic,random:1")
    parser.add_argument("--algorithm", default="auto", help="variants beside native, with commas between")
    parser.add_argument("--size", default="65536,1048576,4194304", help="bytes, with commas between")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900, help="seconds per placement")
    parser.add_argument("--json", metavar="NAME", help="keep the figures in bench/results/NAME.json")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    about = cluster.context()
    if about is not None:
        inside(options, about)
        return 0
    return reported("vectors", lambda: study(options))


if __name__ == "__main__":
    sys.exit(main())
