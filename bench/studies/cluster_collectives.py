"""Compare collectives on the emulated cluster: variants take turns in one run, so that ratios are fair.

    python -m bench.cluster run --racks 4 --hosts 4 --placement cyclic -- \
        python -m bench.studies.cluster_collectives --algorithm auto,ring --size 32768,1048576 --json result.json

`native` is MPI.COMM_WORLD; every other variant is topocomm.Comm with that algorithm (`auto`: the one it selects).
A size is that of the largest buffer of a rank: the whole vector, never one rank's share of it. A sample is the time of
the slowest rank; medians are reported. The bytes that cross rack uplinks in one call are counted by the switches.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from bench import cluster
from bench.cluster import bits_per_second
from bench.record import ROOT, command

Call = Callable[[Any, NDArray[Any], NDArray[Any]], None]
SAMPLE_SECONDS = 0.02
"""Short calls are repeated until one sample takes about this long."""
MIN_SAMPLES = 3


@dataclass(frozen=True)
class Collective:
    """How to call one, and the share of its vector of n bytes that a send or receive buffer holds on p ranks."""

    call: Call
    shared_send: bool = False
    shared_receive: bool = False
    as_bytes: bool = False
    rooted: bool = False


def _bcast(comm: Any, send: NDArray[Any], receive: NDArray[Any]) -> None:
    if comm.rank == 0:
        receive[:] = send
    comm.Bcast(receive, root=0)


COLLECTIVES = {
    "allreduce": Collective(lambda comm, send, receive: comm.Allreduce(send, receive)),
    "allgather": Collective(lambda comm, send, receive: comm.Allgather(send, receive), shared_send=True, as_bytes=True),
    "reduce_scatter_block": Collective(
        lambda comm, send, receive: comm.Reduce_scatter_block(send, receive), shared_receive=True
    ),
    "alltoall": Collective(lambda comm, send, receive: comm.Alltoall(send, receive), as_bytes=True),
    "bcast": Collective(_bcast, as_bytes=True, rooted=True),
    "reduce": Collective(lambda comm, send, receive: comm.Reduce(send, receive, root=0), rooted=True),
}


def buffers(collective: Collective, size: int, rank: int, ranks: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Send data that differs by rank and position (small whole numbers: every order of summing gives the same bits)."""
    kind = np.dtype(np.uint8 if collective.as_bytes else np.float64)
    count = size // kind.itemsize
    send_count = count // ranks if collective.shared_send else count
    receive_count = count // ranks if collective.shared_receive else count
    data = (np.arange(send_count) * 7 + rank * 13) % 251
    return data.astype(kind), np.zeros(receive_count, kind)


def bound_seconds(name: str, size: int, about: Mapping[str, Any]) -> float:
    """No schedule is faster: what a host link or an uplink must carry one way, divided by its rate."""
    racks, ranks = about["racks"], len(about["order"])
    rack, others = ranks / racks, (ranks - 1) / ranks
    apart = 0 if racks == 1 else 1
    host, uplink = {
        "allreduce": (2 * others, 2 * (racks - 1) / racks),
        "allgather": (others, (racks - 1) / racks),
        "reduce_scatter_block": (others, (racks - 1) / racks),
        "alltoall": (others, rack * (ranks - rack) / ranks),
        "bcast": (1, apart),
        "reduce": (1, apart),
    }[name]
    host_rate = sum(map(bits_per_second, about["links"]))
    return 8 * size * float(max(host / host_rate, uplink / bits_per_second(about["uplink"])))


def make_variants(world: MPI.Intracomm, names: Sequence[str], **described: str) -> dict[str, Any]:
    variants: dict[str, Any] = {"native": world}
    if names:
        import topocomm

        for name in names:
            options: dict[str, Any] = {} if name == "auto" else {"algorithm": name}
            variants[name] = topocomm.Comm(world, **described, **options)
    return variants


def verify(world: MPI.Intracomm, name: str, variants: Mapping[str, Any], size: int) -> None:
    """Every variant must give what the native call gives."""
    collective = COLLECTIVES[name]
    send, expected = buffers(collective, size, world.rank, world.size)
    collective.call(world, send, expected)
    for variant, comm in variants.items():
        received = np.zeros_like(expected)
        collective.call(comm, send, received)
        right = world.allreduce(bool(np.array_equal(received, expected)), MPI.LAND)
        if not right:
            raise SystemExit(f"{name} of {size} bytes: {variant} gives another result than native on some rank")


def sample(world: MPI.Intracomm, collective: Collective, call: Callable[[], None], repeat: int) -> float:
    """Seconds per call on the slowest rank.

    The ranks of a rooted collective do not wait for each other, so calls in a row would overlap: barriers part them.
    """
    spent = 0.0
    for turn in range(repeat):
        if turn == 0 or collective.rooted:
            world.Barrier()
        start = MPI.Wtime()
        call()
        spent += MPI.Wtime() - start
    return float(world.allreduce(spent / repeat, MPI.MAX))


def uplink_bytes(world: MPI.Intracomm, call: Callable[[], None]) -> int:
    """Bytes that left any rack in one call, less those of the barriers around it; counted by rank 0."""

    def passed() -> int:
        world.Barrier()
        found = 0
        if world.rank == 0:
            found = sum(traffic.up_bytes for link, traffic in cluster.counters_here().items() if "/" not in link)
        world.Barrier()
        return found

    start, idle = passed(), passed()
    call()
    return max(0, passed() - idle - (idle - start))


def measure(
    world: MPI.Intracomm, name: str, variants: Mapping[str, Any], size: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One row of the result: samples of all variants, taken in turns."""
    verify(world, name, variants, size)
    collective = COLLECTIVES[name]
    send, receive = buffers(collective, size, world.rank, world.size)
    calls = {variant: partial(collective.call, comm, send, receive) for variant, comm in variants.items()}
    crossed = {variant: uplink_bytes(world, call) for variant, call in calls.items()}
    repeat = min(50, 1 + int(SAMPLE_SECONDS / sample(world, collective, calls["native"], 1)))
    samples: dict[str, list[float]] = {variant: [] for variant in calls}
    for _ in range(options.samples):
        for variant, call in calls.items():
            samples[variant].append(sample(world, collective, call, repeat))
        spent = repeat * sum(map(sum, samples.values()))  # the same on every rank
        if len(samples["native"]) >= MIN_SAMPLES and spent > options.max_seconds:
            break
    results = {
        variant: {
            "median_ms": 1e3 * statistics.median(samples[variant]),
            "min_ms": 1e3 * min(samples[variant]),
            "max_ms": 1e3 * max(samples[variant]),
            "samples": len(samples[variant]),
            "calls_per_sample": repeat,
            "uplink_bytes": crossed[variant],
        }
        for variant in calls
    }
    return {"collective": name, "size": size, "variants": results}


def revision() -> str:
    """The git revision of this tree, with + behind it if files differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":!bench/results"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip() + ("+" if changed else "")


def describe(about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a reader needs to judge the figures or to take them again."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = {"python": platform.python_version()}
    for package in ("numpy", "mpi4py", "topocomm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "mpi": MPI.Get_library_version().strip("\0").splitlines()[0].strip(),
        "cluster": {key: about[key] for key in ("racks", "hosts", "links", "uplink", "placement", "order")},
        "machine": {
            "cpu": cpu[1] if cpu else platform.processor(),
            "cores": os.cpu_count(),
            "linux": ".".join(platform.release().split(".")[:2]),
        },
        "versions": versions,
        "git": revision(),
        "command": command(),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Per collective: size, median milliseconds of each variant, the bound, and kilobytes that crossed uplinks."""
    lines = []
    for name in dict.fromkeys(row["collective"] for row in rows):
        ours = [row for row in rows if row["collective"] == name]
        names = list(ours[0]["variants"])
        titles = [
            *(f"{variant}(ms)" for variant in names),
            "Bound(ms)",
            *(f"{variant} uplink(kB)" for variant in names),
        ]
        lines += ["", f"# {name}", f"{'# Size':<10}" + "".join(f"{title:>20}" for title in titles)]
        for row in ours:
            results = row["variants"].values()
            values = [result["median_ms"] for result in results]
            values += [row["bound_ms"], *(result["uplink_bytes"] / 1e3 for result in results)]
            lines.append(f"{row['size']:<10}" + "".join(f"{value:>20.2f}" for value in values))
    return "\n".join(lines[1:])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare collectives on the emulated cluster.")
    parser.add_argument("--algorithm", default="", help="variants beside native: auto or names, with commas between")
    parser.add_argument("--topology", help="placement file for topocomm (default: that of this run)")
    parser.add_argument("--collective", default=",".join(COLLECTIVES))
    parser.add_argument("--size", default="1024,32768,1048576", help="bytes, with commas between")
    parser.add_argument("--samples", type=int, default=7, help="samples per variant")
    parser.add_argument("--max-seconds", type=float, default=30, help="fewer samples, at least 3, if they take longer")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.algorithm, options.collective = (
        [name for name in text.split(",") if name] for text in (options.algorithm, options.collective)
    )
    options.size = [int(size) for size in options.size.split(",")]
    unknown = set(options.collective) - set(COLLECTIVES)
    if unknown:
        parser.error(f"unknown collective {', '.join(unknown)}; known: {', '.join(COLLECTIVES)}")
    return options


def main() -> None:
    world = MPI.COMM_WORLD
    options = parse_arguments()
    about = cluster.context()
    if about is None:
        raise SystemExit("this is no emulated cluster; run it through python -m bench.cluster run ... -- python ...")
    wrong = [size for size in options.size if size % (8 * world.size)]
    if wrong:
        raise SystemExit(f"sizes {wrong} cannot be shared evenly: multiples of 8 x {world.size} bytes are needed")
    variants = make_variants(
        world, options.algorithm, topology=options.topology or about["topology"], machine=about["machine"]
    )
    rows = []
    for name in options.collective:
        for size in options.size:
            row = measure(world, name, variants, size, options)
            rows.append({**row, "bound_ms": 1e3 * bound_seconds(name, size, about)})
    if world.rank == 0:
        context = describe(about)
        report = {"format": "topocomm-collectives-ab", "version": 1, "context": context, "rows": rows}
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
        print(*(f"# {key}: {value}" for key, value in context.items()), "", table(rows), sep="\n", flush=True)


if __name__ == "__main__":
    main()
