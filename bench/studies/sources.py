"""Levels from what a machine says of itself: are they right, and what does asking add to the start of a job?

    python -m bench.studies.sources                       # about a minute

``emulated``: 4 racks of 4 hosts, whose cards have Slingshot addresses and whose tasks have Slurm's variables, each
alone and both: the levels that ``comm.machine_topology`` has with no argument, and the seconds of discovery with the
sources and without them (``TOPOCOMM_DISCOVER=off``). ``scale``: rank 0's seconds for 10,240 nodes in one process.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.cluster import Cluster, ClusterError, detect_mpi, find_mpiexec, place, reported
from bench.record import keep
from topocomm.topology.live.choosing import Answers, choose
from topocomm.topology.live.sources import Host, named_sources

RACKS, HOSTS, NODES, TIMES = 4, 4, 10240, 9
PROGRAM = """
import json, statistics, time
from mpi4py import MPI
import topocomm
from topocomm.topology.live.discover import discover
world = MPI.COMM_WORLD
def taken(sources):
    world.Barrier()
    began = time.perf_counter()
    discover(world, sources)
    return world.allreduce(time.perf_counter() - began, MPI.MAX)
first = taken(None)
seconds = {"off": [], "all": []}
for _ in range(9):
    seconds["off"].append(taken(()))
    seconds["all"].append(taken(None))
comm = topocomm.Comm(world)
topology = comm.machine_topology
outer = topology.labels[:, :topology.levels.index("node")].tolist()
if world.rank == 0:
    medians = {name: round(statistics.median(values), 5) for name, values in seconds.items()}
    print(json.dumps({"source": comm.machine_sources[0], "outer": outer, "seconds": medians, "first": round(first, 5)}))
"""
SLURM = (
    "h=$(hostname); k=${h#h}; SLURMD_NODENAME=$h SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node "
    'SLURM_TOPOLOGY_ADDR=top.s$((k / 4)).$h exec "$0" -c "$1"'
)


def emulated() -> dict[str, Any]:
    """Ranks in random order on hosts whose racks are Slurm's switches and Slingshot's groups."""
    order = place("random:1", RACKS, HOSTS)
    plain = [sys.executable, "-c", PROGRAM]
    spoken = ["sh", "-c", SLURM, sys.executable, PROGRAM]
    figures = {}
    with Cluster(RACKS, HOSTS, link="1gbit", uplink="1gbit") as cluster:
        figures["nothing"] = run(cluster, order, plain, [[] for _ in order])
        figures["slurm"] = run(cluster, order, spoken, [["top", f"s{host // HOSTS}"] for host in order])
        for host in range(RACKS * HOSTS):
            cluster.add_card(host, "hsn0", 0x020000000000 | (host // HOSTS) << 11 | (host % HOSTS // 2) << 6 | host % 2)
        rows = [[str(host // HOSTS), str(host % HOSTS // 2)] for host in order]
        figures["slingshot"] = run(cluster, order, plain, rows)
        figures["both"] = run(cluster, order, spoken, [["top", f"s{host // HOSTS}"] for host in order])
    return figures


def run(cluster: Cluster, order: list[int], command: list[str], expected: list[list[str]]) -> dict[str, Any]:
    """One job; ``exact``: every rank has exactly the places that were set up."""
    done = cluster.mpiexec(command, placement=order, timeout=120, capture=True)
    if done.returncode:
        raise ClusterError(f"return code {done.returncode}\n{done.stdout}{done.stderr}")
    found = json.loads(done.stdout)
    return {"exact": found.pop("outer") == expected, **found}


def scale() -> dict[str, float]:
    """Rank 0's seconds to choose, one rank a node, by what the nodes answer."""
    names = named_sources(None)
    who = [(f"n{k}", k) for k in range(NODES)]
    pattern = "switch.switch.switch.node"
    slurm = [{"slurm": f"top.c{k // 64}.l{k // 16}.n{k}\n{pattern}\nn{k}"} for k in range(NODES)]
    cards = [{"slingshot": " ".join(f"hsn{c}={address(4 * k + c)}" for c in range(4))} for k in range(NODES)]
    leaves = [f"SwitchName=l{k} Nodes=n[{16 * k}-{16 * k + 15}]" for k in range(NODES // 16)]
    cells = [f"SwitchName=c{k} Switches=l[{4 * k}-{4 * k + 3}]" for k in range(NODES // 64)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "etc/slurm").mkdir(parents=True)
        (root / "etc/slurm/topology.conf").write_text("\n".join([*leaves, *cells]))
        silent: list[Answers] = [{}] * NODES
        return {
            "nothing": median(lambda: choose(names, who, silent, Host("n0", {}, root / "none"))),
            "slurm": median(lambda: choose(names, who, slurm, Host("n0", {}, root / "none"))),
            "topology.conf": median(lambda: choose(names, who, silent, Host("n0", {}, root))),
            "slingshot": median(lambda: choose(names, who, cards, Host("n0", {}, root / "none"))),
        }


def address(number: int) -> str:
    """A Slingshot address with these low bits."""
    return ":".join(f"{0x020000000000 | number:012x}"[i : i + 2] for i in range(0, 12, 2))


def median(call: Callable[[], object]) -> float:
    """The median of some calls' seconds."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return round(statistics.median(taken), 4)


def study() -> None:
    """Measure, print and keep everything."""
    mpi = detect_mpi(find_mpiexec(sys.executable))
    figures = {"mpi": mpi, "ranks": RACKS * HOSTS, "emulated": emulated(), "nodes": NODES, "scale": scale()}
    print(json.dumps(figures, indent=1))
    keep(f"discovery_sources_{mpi}", figures)


if __name__ == "__main__":
    sys.exit(reported("study", study))
