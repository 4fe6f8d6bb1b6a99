"""Measured discovery and calibration on the emulated cluster: are the racks found, and the capacities of the links?

    python -m bench.studies.discovery                    # everything, about seven minutes
    python -m bench.studies.discovery --part node        # one part; the others' figures stay

Parts: ``racks`` (4 racks of 4 hosts), ``unequal`` (racks of 4, 3 and 2 hosts), ``shared`` (two ranks a host), ``node``
(8 ranks on one host), ``calibrate`` (the command, 4 racks of 4 hosts). Ranks are shuffled anew in every run. The MPI
library is that of the Python that runs this. Figures are kept in bench/results/discovery.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from bench.cluster import Cluster, ClusterError, bits_per_second, detect_mpi, find_mpiexec, place, reported
from bench.record import RESULTS, context, keep

LINK = "40mbit"
PROGRAM = """
import json, sys
from mpi4py import MPI
from topocomm.topology.live.probe import measure
m = measure(MPI.COMM_WORLD, seconds=float(sys.argv[1]))
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps({
        "levels": m.topology.levels, "places": m.topology.places.tolist(), "flat": m.flat, "names": m.names,
        "confidence": round(m.confidence, 3), "seconds": round(m.effort.seconds, 2),
        "repetitions": m.effort.repetitions, "message": m.effort.message,
        "distances": [
            {"kind": x.kind, "inside_ms": round(x.inside * 1e3, 3), "across_ms": round(x.across * 1e3, 3)}
            for x in m.found.levels
        ],
    }))
"""


def partition(labels: Sequence[Any]) -> list[int]:
    """Labels by order of first appearance, so that equal partitions compare equal."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


def one_run(cluster: Cluster, order: Sequence[int], seconds: float) -> dict[str, Any]:
    """Discover on these hosts; whether exactly the racks and the hosts in them were found."""
    command = [sys.executable, "-c", PROGRAM, str(seconds)]
    done = cluster.mpiexec(command, placement=order, timeout=120, capture=True)
    if done.returncode:
        raise ClusterError(f"return code {done.returncode}\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    columns = [partition(column) for column in zip(*found.pop("places"), strict=True)]
    found["load"] = round(os.getloadavg()[0], 1)
    found["exact"] = columns == [partition([host // cluster.hosts for host in order]), partition(order)]
    return found


def discover(runs: int, seconds: float, racks: int, hosts: Sequence[int] | None, per_host: int = 1) -> dict[str, Any]:
    """Repeated discovery on 4 hosts a rack, all of them or only ``hosts``; ranks in another order each time."""
    results = []
    with Cluster(racks, 4, link=LINK, uplink=LINK) as cluster:
        for seed in range(runs):
            order = place(f"random:{seed}", racks, 4, per_host)
            results.append(one_run(cluster, [h for h in order if hosts is None or h in hosts], seconds))
            print(f"run {seed}: {results[-1]}", file=sys.stderr, flush=True)
    return {"exact": sum(r["exact"] for r in results), "runs": runs, "each": results}


def one_node(runs: int, seconds: float) -> dict[str, Any]:
    """Discovery among 8 ranks of this machine, without a cluster: every rank is probed."""
    results = []
    for _ in range(runs):
        mpiexec = str(find_mpiexec(sys.executable))
        command = [mpiexec, "-n", "8", sys.executable, "-c", PROGRAM, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        found = json.loads(done.stdout)
        del found["places"]
        found["load"] = round(os.getloadavg()[0], 1)
        results.append(found)
        print(f"one node: {found}", file=sys.stderr, flush=True)
    return {"flat": sum(r["flat"] for r in results), "runs": runs, "each": results}


def calibrate() -> dict[str, Any]:
    """The command itself, beside the rates that the links are shaped to."""
    with Cluster(4, 4, link=LINK, uplink=LINK) as cluster:
        machine = cluster.scratch / "machine.json"
        command = [sys.executable, "-m", "topocomm", "calibrate", "--save", str(machine)]
        done = cluster.mpiexec(command, placement="random:1", timeout=200, capture=True)
        if done.returncode:
            raise ClusterError(f"return code {done.returncode}\n{done.stdout}{done.stderr}")
        print(done.stdout, file=sys.stderr, flush=True)
        found = json.loads(machine.read_text())
    shaped = bits_per_second(LINK) / 8
    over = {
        level["name"]: {end: round(level[end] * level["links"] / shaped, 3) for end in ("up", "down")}
        for level in found["levels"]
    }
    return {"shaped_bytes_per_second": shaped, "measured_over_shaped": over, "machine": found, "table": done.stdout}


PARTS = {
    "racks": lambda runs: discover(runs, 10, 4, None),
    "unequal": lambda runs: discover(runs, 10, 3, (0, 1, 2, 3, 4, 5, 6, 8, 9)),
    "shared": lambda runs: discover(min(runs, 2), 10, 2, None, 2),
    "node": lambda runs: one_node(runs, 5),
    "calibrate": lambda runs: calibrate(),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measured discovery on the emulated cluster.")
    parser.add_argument("--part", default=",".join(PARTS), help="with commas between")
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    for part in options.part.split(","):
        if part not in PARTS:
            parser.error(f"no part {part!r}; there are {', '.join(PARTS)}")
    return reported("study", lambda: study(options.part.split(","), options.runs))


def study(parts: Sequence[str], runs: int) -> None:
    """Measure, keep and print these parts; the others' figures stay."""
    kept = RESULTS / "discovery.json"
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    for part in parts:
        figures[part] = PARTS[part](runs)
        about = {"mpi": detect_mpi(find_mpiexec(sys.executable)), "link": LINK}
        keep("discovery", {**{k: v for k, v in figures.items() if k not in context()}, **about})
        print({k: v for k, v in figures[part].items() if k in ("exact", "flat", "runs", "measured_over_shaped")})


if __name__ == "__main__":
    sys.exit(main())
