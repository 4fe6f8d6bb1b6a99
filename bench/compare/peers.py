"""MPI libraries as peers: their best documented settings, how ranks wait, and how jobs start on one node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster import Cluster, ClusterError, detect_mpi, find_mpiexec
from topocomm.cli.report.document import Place

__all__ = ["Machine", "Peer", "peers_of"]

SETTINGS: dict[str, dict[str, dict[str, str]]] = {
    "mpich": {"default": {}},
    "openmpi": {"default": {}, "han": {"OMPI_MCA_coll_han_priority": "100"}},
    "impi": {"default": {}},
}
"""MPI library → name of a setting → environment; ``default`` is what the library chooses by itself."""

WAITING = {
    "mpich": "ranks poll; MPICH has no switch to yield",
    "openmpi": "ranks poll and yield (mpi_yield_when_idle)",
    "impi": "ranks poll and yield (I_MPI_THREAD_YIELD)",
}
_YIELD = {"OMPI_MCA_mpi_yield_when_idle": "1", "I_MPI_THREAD_YIELD": "3", "I_MPI_PIN": "0"}
_ROOT = {f"{name}_ALLOW_RUN_AS_ROOT{end}": "1" for name in ("OMPI", "PRTE") for end in ("", "_CONFIRM")}
_MANY = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


@dataclass(frozen=True)
class Peer:
    """One MPI library, by the interpreter that finds it, with one of its settings."""

    python: str
    library: str
    setting: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The setting behind the library's name; empty for its defaults."""
        return "" if self.setting == "default" else f" ({self.setting})"

    @property
    def settings(self) -> str:
        """The settings in words."""
        said = " ".join(f"{key}={value}" for key, value in self.env.items())
        return f"{self.library}, {self.setting}{': ' + said if said else ''}"


def peers_of(pythons: Sequence[str], settings: Sequence[str]) -> list[Peer]:
    """List the peers behind interpreters; a setting that a library does not have is left out."""
    found = []
    for python in pythons:
        library = detect_mpi(find_mpiexec(python))
        known = SETTINGS[library]
        found += [Peer(python, library, name, known[name]) for name in settings if name in known]
    return found


@dataclass(frozen=True)
class Machine:
    """The place of the comparison: a shape of emulated racks, or (`node` above 0) this node with so many ranks."""

    racks: int = 4
    hosts: int = 4
    link: str = "40mbit"
    uplink: str = "40mbit"
    ranks_per_host: int = 1
    node: int = 0

    @property
    def ranks(self) -> int:
        return self.node or self.racks * self.hosts * self.ranks_per_host

    def cluster(self) -> Cluster:
        """Set the racks up; not on a node. Raises ClusterError."""
        return Cluster(self.racks, self.hosts, link=self.link, uplink=self.uplink)

    def place(self, placement: str) -> Place:
        """Say where ranks sit."""
        if self.node:
            return Place(f"{self.node} ranks on one node", "one node", self.node, f"{os.cpu_count()} cores")
        each = "one rank each" if self.ranks_per_host == 1 else f"{self.ranks_per_host} ranks each"
        shape = f"{self.racks} racks of {self.hosts} emulated hosts, {each}"
        links = f"host links {self.link}, uplinks {self.uplink}"
        return Place(f"{shape}, {links}", placement, self.ranks, "network namespaces, real TCP, every link shaped")

    def run(self, cluster: Cluster | None, peer: Peer, placement: str, argv: Sequence[str], timeout: float) -> None:
        """Run a Python program on all ranks. Raises ClusterError, with what it said, if it fails."""
        words, env = [peer.python, *argv], dict(peer.env)
        if cluster is not None:
            done = cluster.mpiexec(words, placement=placement, ranks_per_host=self.ranks_per_host, timeout=timeout,
                                   python=peer.python, env=env, capture=True)  # fmt: skip
        else:
            mpiexec = find_mpiexec(peer.python)
            path = f"{Path(peer.python).parent}:{os.environ['PATH']}"
            whole = {**os.environ, **_ROOT, **_MANY, **_YIELD, **env, "PATH": path}
            command = [str(mpiexec), "-n", str(self.node), *words]
            done = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise ClusterError(
                f"{peer.settings}, {placement}: return code {done.returncode}\n{done.stdout}{done.stderr}"
            )
