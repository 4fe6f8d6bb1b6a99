"""Command lines that start MPI programs on emulated hosts, one function per MPI library.

Each library gets three settings: use this script instead of ssh, keep your own traffic on the management interface,
and let the messages of the program use the shaped interfaces only. Each host believes that it owns the machine, so two
settings which a library makes itself when ranks share cores are made for it: no process is bound to a core (all would
get the same one), and a rank that waits yields its core, else the others wait for the end of its time slice (MPICH
has no such switch and its short calls need none).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster.namespaces import ClusterError

MANAGEMENT = "m0"


@dataclass(frozen=True)
class Job:
    """What a launcher must know: the program, the host of each rank, the ssh stand-in, the network interfaces."""

    mpiexec: Path
    program: Sequence[str]
    hosts: Sequence[str]
    agent: Path
    interfaces: Sequence[str]
    scratch: Path


@dataclass
class Launch:
    """A command line and the environment variables it needs beside the inherited ones."""

    command: list[str]
    env: dict[str, str] = field(default_factory=dict)


def _host_file(job: Job, line: str) -> Path:
    path = job.scratch / "hosts"
    path.write_text("".join(line.format(host) + "\n" for host in job.hosts))
    return path


def mpich(job: Job) -> Launch:
    """MPICH: UCX finds shared memory between namespaces of one machine, so only its tcp transport is allowed."""
    hydra = ["-launcher", "ssh", "-launcher-exec", str(job.agent), "-iface", MANAGEMENT]
    ranks = ["-f", str(_host_file(job, "{}:1")), "-n", str(len(job.hosts))]
    env = {
        "UCX_TLS": "tcp,self",
        "UCX_NET_DEVICES": ",".join(job.interfaces),
        "UCX_MAX_RNDV_RAILS": str(len(job.interfaces)),
        "FI_PROVIDER": "tcp",
        "FI_TCP_IFACE": job.interfaces[0],
    }
    return Launch([str(job.mpiexec), *hydra, *ranks, *job.program], env)


def openmpi(job: Job) -> Launch:
    """Open MPI: the sequential mapper gives rank i the host in line i.

    The file is not named in --map-by itself: a path with the letters "pe" in it would be read as another option there.
    """
    runtime = ["--prtemca", "plm_ssh_agent", str(job.agent), "--prtemca", "prte_if_include", MANAGEMENT]
    runtime += ["--prtemca", "plm_ssh_no_tree_spawn", "1"]
    ranks = ["--hostfile", str(_host_file(job, "{}")), "--map-by", "seq:oversubscribe"]
    ranks += ["--bind-to", "none", "-n", str(len(job.hosts))]
    network = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "osc", "^ucx"]
    network += ["--mca", "btl_tcp_if_include", ",".join(job.interfaces)]
    names = ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT")
    env = {name + suffix: "1" for name in names for suffix in ("", "_CONFIRM")}
    env["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return Launch([str(job.mpiexec), *runtime, *ranks, *network, *job.program], env)


def impi(job: Job) -> Launch:
    """Intel MPI: libfabric's tcp provider on the first interface (it takes one)."""
    root = str(job.mpiexec.parent.parent)
    hydra = ["-bootstrap", "ssh", "-bootstrap-exec", str(job.agent), "-iface", MANAGEMENT]
    ranks = ["-machinefile", str(_host_file(job, "{}:1")), "-n", str(len(job.hosts))]
    env = {
        "I_MPI_ROOT": root,
        "I_MPI_FABRICS": "ofi",
        "I_MPI_PIN": "0",
        "I_MPI_THREAD_YIELD": "3",
        "FI_PROVIDER_PATH": f"{root}/lib",
        "FI_PROVIDER": "tcp",
        "FI_TCP_IFACE": job.interfaces[0],
    }
    return Launch([str(job.mpiexec), *hydra, *ranks, *job.program], env)


LAUNCHERS = {"mpich": mpich, "openmpi": openmpi, "impi": impi}
_BANNERS = {"Open MPI": "openmpi", "Intel(R) MPI": "impi", "HYDRA": "mpich"}


def find_mpiexec(python: str) -> Path:
    """The mpiexec beside an interpreter, else the one on PATH."""
    beside = Path(python).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise ClusterError(f"no mpiexec beside {python} nor on PATH; install an MPI library into this environment")
    return Path(found)


def detect_mpi(mpiexec: Path) -> str:
    """Which MPI library an mpiexec belongs to: a key of LAUNCHERS."""
    said = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, check=False, timeout=30)
    for words, name in _BANNERS.items():
        if words in said.stdout + said.stderr:
            return name
    raise ClusterError(f"{mpiexec} --version names none of {', '.join(LAUNCHERS)}: {said.stdout[:80]!r}")
