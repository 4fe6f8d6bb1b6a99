"""The time model beside SimGrid: every algorithm's schedule replayed on a fat tree, a dragonfly and a torus.

    python -m bench.studies.simgrid_replay [--sizes 1024 65536 4194304] [--orders sorted cyclic random:1]

Needs SimGrid (Debian: ``apt-get install libsimgrid-dev``). Two referees: ``routes``, a platform with the very links and
routes of the model, and ``zone``, SimGrid's own FAT_TREE, DRAGONFLY and TORUS with links of the same speed, which finds
its own routes. For each collective, size and order of ranks the candidates are ranked by both; figures go to
``bench/results/simgrid.json``: rank correlation (Spearman), error of the time, and the regret of the model's choice.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from bench.record import keep
from topocomm.algorithms import TABLE, make_schedule
from topocomm.model import Level, Machine, Network, schedule_time, transfers
from topocomm.model.export import simgrid_options, write_simgrid
from topocomm.topology import Topology, dragonfly, fat_tree, reorder_ranks, torus

REPLAY = "/usr/lib/x86_64-linux-gnu/simgrid/smpireplaymain"
SPEED, LATENCY = 12.5e9, 0.25e-6
ORDERS = ("sorted", "cyclic", "random:1")
COLLECTIVES = ("allreduce", "allgather", "reduce_scatter", "alltoall", "bcast", "reduce")
FREE = Level("rank", 1e15, 1e15, 0.0)
LIMIT = 120
PARALLEL = 4


def level(name: str, links: int = 1) -> Level:
    return Level(name, SPEED, SPEED, LATENCY, links)


def tree(kind: str, *levels: Level, dims: tuple[int, ...] = ()) -> Machine:
    return Machine(kind, levels, FREE, 0.5e-6, dims)


MACHINES: dict[str, tuple[Machine, Topology, str]] = {
    "fat tree 4 x 4 x 4, 2:1 twice": (
        tree("fat_tree", level("pod", 4), level("switch", 2), level("node")),
        fat_tree(4, 4, 4),
        'topology="FAT_TREE" topo_parameters="3;4,4,4;1,2,2;1,1,1"',
    ),
    "dragonfly 4 x 4 x 4": (
        tree("dragonfly", level("group"), level("router"), level("node")),
        dragonfly(4, 4, 4),
        'topology="DRAGONFLY" topo_parameters="4,1;1,1;4,1;4"',
    ),
    "torus 4 x 4 x 4": (
        tree("torus", level("dim0"), level("dim1"), level("node"), dims=(4, 4, 4)),
        torus((4, 4, 4)),
        'topology="TORUS" topo_parameters="4,4,4"',
    ),
}


@dataclass(frozen=True)
class Case:
    """The candidates of one collective, size and order on one machine: seconds by model and by referee."""

    machine: str
    referee: str
    order: str
    collective: str
    nbytes: int
    model: dict[str, float]
    simgrid: dict[str, float]

    def errors(self) -> list[float]:
        """Relative errors of the model's times."""
        return [self.model[n] / self.simgrid[n] - 1 for n in self.model]

    def correlation(self) -> float:
        """Spearman's rank correlation of the candidates; times within 1 % are equal."""
        names = list(self.model)
        return spearman([self.model[n] for n in names], [self.simgrid[n] for n in names])

    def regret(self) -> float:
        """Divide the time of the model's fastest candidate by that of the referee's fastest, both by the referee."""
        choice = min(self.model, key=lambda n: self.model[n])
        return self.simgrid[choice] / min(self.simgrid.values()) - 1

    def row(self) -> dict[str, Any]:
        """For JSON."""
        times = {n: [round(self.model[n] * 1e6, 3), round(self.simgrid[n] * 1e6, 3)] for n in self.model}
        return {
            "machine": self.machine,
            "referee": self.referee,
            "order": self.order,
            "collective": self.collective,
            "bytes": self.nbytes,
            "correlation": round(self.correlation(), 4),
            "regret": round(self.regret(), 4),
            "model_and_simgrid_us": times,
        }


def ranks_of(values: list[float]) -> np.ndarray:
    """Ranks; values within 1 % of the next lower one share theirs."""
    order = np.argsort(values)
    ordered = np.array(values)[order]
    group = np.concatenate(([0], np.cumsum(ordered[1:] > ordered[:-1] * 1.01)))
    mean = np.bincount(group, weights=np.arange(len(values))) / np.bincount(group)
    out = np.empty(len(values))
    out[order] = mean[group]
    return out


def spearman(a: list[float], b: list[float]) -> float:
    """Rank correlation; 1 where all are equal in both."""
    x, y = ranks_of(a), ranks_of(b)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / norm if norm else float(not x.any() and not y.any())


def zone(topology: Topology, description: str) -> str:
    """A platform with SimGrid's own zone; host n0, n1, … are the nodes in topology order."""
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">\n'
        f'<platform version="4.1">\n <cluster id="c" prefix="n" suffix="" radical="0-{topology.size - 1}" speed="1Gf" '
        f'bw="{SPEED!r}Bps" lat="{LATENCY!r}s" sharing_policy="SPLITDUPLEX" {description}/>\n</platform>\n'
    )


def replay(folder: Path, traces: Path, network: Network) -> float:
    """Simulated seconds of some traces on the platform in a folder. Raises RuntimeError if SimGrid does not say."""
    options = [f"--cfg={option}" for option in simgrid_options(network)]
    small = ["--cfg=contexts/stack-size:256", "--cfg=contexts/guard-size:0", "--cfg=smpi/display-timing:yes"]
    command = ["smpirun", "-no-privatize", "-replay", str(traces), "-np", str(network.size)]
    command += ["-platform", str(folder / "platform.xml"), "-hostfile", str(folder / "hosts.txt"), REPLAY]
    done = subprocess.run([*command, *options, *small], capture_output=True, text=True, timeout=LIMIT, check=False)
    found = re.search(r"Simulated time: ([0-9.e+-]+) seconds", done.stdout + done.stderr)
    if found is None:
        raise RuntimeError(f"SimGrid said nothing: {(done.stdout + done.stderr)[-600:]}")
    return float(found[1])


def names_of(collective: str, size: int) -> list[str]:
    return [n for n, a in TABLE[collective].items() if not (a.power_of_two and size & (size - 1))]


def cases(machine: str, referee: str, order: str, sizes: list[int], collectives: list[str]) -> Iterator[Case]:
    """Replay all candidates of one machine in one order."""
    described, sorted_topology, native = MACHINES[machine]
    topology = reorder_ranks(sorted_topology, order)
    network = Network(described, topology)
    nodes = reorder_ranks(Topology(("x",), np.arange(topology.size)[:, None]), "given")
    places = {tuple(row): i for i, row in enumerate(sorted_topology.labels.tolist())}
    hosts = [places[tuple(row)] for row in topology.labels.tolist()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = make_schedule("barrier", "dissemination", topology)
        write_simgrid(first, 0, folder, network)
        if referee == "zone":
            (folder / "platform.xml").write_text(zone(nodes, native), encoding="utf-8")
            (folder / "hosts.txt").write_text("".join(f"n{h}\n" for h in hosts), encoding="ascii")

        def both(collective: str, nbytes: int, algorithm: str) -> tuple[float, float]:
            traces = write_simgrid(make_schedule(collective, algorithm, topology), nbytes, folder / algorithm)
            modelled = schedule_time(transfers(collective, algorithm, topology), network, nbytes)
            return modelled, replay(folder, traces, network)

        for collective in collectives:
            for nbytes in sizes:
                names = names_of(collective, topology.size)
                with ThreadPoolExecutor(PARALLEL) as pool:
                    times = dict(zip(names, pool.map(partial(both, collective, nbytes), names), strict=True))
                model, simgrid = {n: t[0] for n, t in times.items()}, {n: t[1] for n, t in times.items()}
                yield Case(machine, referee, order, collective, nbytes, model, simgrid)


def summary(found: list[Case]) -> dict[str, Any]:
    """Figures over some cases."""
    errors = [abs(e) for case in found for e in case.errors()]
    model = [t for case in found for t in case.model.values()]
    simgrid = [t for case in found for t in case.simgrid.values()]
    return {
        "cases": len(found),
        "schedules": len(errors),
        "mean_rank_correlation": round(fmean(c.correlation() for c in found), 4),
        "least_rank_correlation": round(min(c.correlation() for c in found), 4),
        "rank_correlation_of_all": round(spearman(model, simgrid), 4),
        "median_error": round(median(errors), 5),
        "largest_error": round(max(errors), 4),
        "mean_regret": round(fmean(c.regret() for c in found), 5),
        "largest_regret": round(max(c.regret() for c in found), 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 65536, 4194304])
    parser.add_argument("--collectives", nargs="+", default=list(COLLECTIVES), choices=list(TABLE))
    parser.add_argument("--orders", nargs="+", default=list(ORDERS))
    args = parser.parse_args()
    if shutil.which("smpirun") is None or not Path(REPLAY).exists():
        print("SimGrid is missing: apt-get install libsimgrid-dev", file=sys.stderr)
        return 1
    found: list[Case] = []
    rows = []
    for machine in MACHINES:
        for referee in ("routes", "zone"):
            here = [c for o in args.orders for c in cases(machine, referee, o, args.sizes, args.collectives)]
            rows.append({"machine": machine, "referee": referee, **summary(here)})
            print(rows[-1], flush=True)
            found += here
    everything = {r: summary([c for c in found if c.referee == r]) for r in ("routes", "zone")}
    print(everything)
    print(f"kept {keep('simgrid', {'by_referee': everything, 'summary': rows, 'cases': [c.row() for c in found]})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
