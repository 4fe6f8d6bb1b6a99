"""The emulated cluster itself: programs on its hosts, with and without MPI, and where they are when they hang."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cluster import namespaces
from bench.cluster.launchers import LAUNCHERS, Job, Launch, detect_mpi, find_mpiexec
from bench.cluster.namespaces import ClusterError, Traffic
from bench.cluster.network import Network

__all__ = ["Cluster", "context", "counters_here", "place", "why_not"]

CONTEXT = "EMULATED_CLUSTER"
"""Environment variable in which every process of a run finds the description of its cluster, as JSON."""
TIMED_OUT = 124

_RANK = re.compile(rb"(?:^|\0)(?:PMI_RANK|OMPI_COMM_WORLD_RANK)=(\d+)")


def place(placement: str | Sequence[int], racks: int, hosts: int, ranks_per_host: int = 1) -> list[int]:
    """The host of each rank: block fills host after host, cyclic deals to the racks in turn, random:SEED shuffles."""
    total = racks * hosts
    if not isinstance(placement, str):
        if not all(0 <= host < total for host in placement):
            raise ClusterError(f"placement {list(placement)} names hosts outside 0..{total - 1}")
        return list(placement)
    block = [host for host in range(total) for _ in range(ranks_per_host)]
    if placement == "block":
        return block
    if placement == "cyclic":
        return [rack * hosts + host for host in range(hosts) for rack in range(racks)] * ranks_per_host
    kind, _, seed = placement.partition(":")
    if kind != "random" or not seed.isdigit():
        raise ClusterError(f"placement {placement!r} is none of block, cyclic, random:SEED")
    random.Random(int(seed)).shuffle(block)
    return block


def why_not() -> str | None:
    """The reason why no cluster can be emulated here, or None: the smallest one was made and removed."""
    try:
        with Cluster(racks=1, hosts=1):
            return None
    except ClusterError as error:
        return str(error)


def context() -> dict[str, Any] | None:
    """Inside a run: the description of the cluster this process is on; None elsewhere."""
    text = os.environ.get(CONTEXT)
    return json.loads(text) if text else None


def counters_here() -> dict[str, Traffic]:
    """Cluster.counters(), asked from inside a run by one of its processes."""
    cluster = context()
    if cluster is None:
        raise ClusterError(f"{CONTEXT} is not set: this process does not run on an emulated cluster")
    return namespaces.traffic_of(cluster["switch"])


def _rank_of(pid: int) -> int | None:
    """The MPI rank of a process, None if it is none."""
    with contextlib.suppress(OSError):
        match = _RANK.search(Path(f"/proc/{pid}/environ").read_bytes())
        return int(match[1]) if match else None
    return None


def _stderr_of(pid: int) -> int | None:
    """The reading end of the pipe a process writes its errors to; None if it is no pipe."""
    path = f"/proc/{pid}/fd/2"
    with contextlib.suppress(OSError):
        if os.readlink(path).startswith("pipe:"):
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return None


class Cluster(Network):
    """racks x hosts emulated hosts h0, h1, ... (host i is in rack i // hosts) and the programs on them."""

    def host_command(self, host: int, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """Start a process on a host, without MPI; keyword arguments go to subprocess.Popen."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace(host), *self._as_host(), f"h{host}", *argv], **popen
        )

    def _as_host(self) -> list[str]:
        """The command before a host's name and a program: the program gets that name and the host's shared memory.

        MPI libraries take processes with one host name for one node, and leave files in /dev/shm when they are killed.
        """
        there = f'hostname "$0" && mount --bind {self.memory}/$0 /dev/shm && exec "$@"'
        return ["unshare", "--uts", "sh", "-c", there]

    def mpiexec(
        self,
        argv: Sequence[str],
        *,
        placement: str | Sequence[int] = "block",
        ranks_per_host: int = 1,
        timeout: float = 600,
        mpi: str = "auto",
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        capture: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program under the MPI library of an interpreter, one process per rank in the order of the placement.

        The result is like subprocess.run's. After `timeout` seconds every rank prints its Python stack and the run
        is ended with return code 124. Processes find EMULATED_CLUSTER (see `context`) in their environment.
        """
        order = place(placement, self.racks, self.hosts, ranks_per_host)
        mpiexec = find_mpiexec(python)
        found = detect_mpi(mpiexec)
        if mpi not in ("auto", found):
            raise ClusterError(f"{mpiexec} is {found}, not {mpi}; use the Python of an environment that has {mpi}")
        names = [f"h{host}" for host in order]
        scratch = Path(tempfile.mkdtemp(prefix="job-", dir=self.scratch))  # jobs may run side by side
        launch = LAUNCHERS[found](Job(mpiexec, argv, names, self._agent(scratch), self.interfaces, scratch))
        about = self._describe(found, placement, order, scratch)
        environment = {**os.environ, **launch.env, CONTEXT: json.dumps(about), "PYTHONFAULTHANDLER": "1", **(env or {})}
        environment["TMPDIR"] = str(scratch)  # what launchers leave there goes with it
        environment["PATH"] = f"{Path(python).parent}:{environment['PATH']}"
        return self._launch(launch, environment, timeout, capture)

    def _agent(self, scratch: Path) -> Path:
        """A stand-in for ssh: enters the namespace of the host it is given and runs the rest as a shell line."""
        path = scratch / "agent"
        path.write_text(
            '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nhost=$1; shift\n'
            f'exec ip netns exec "{self.name}-$host" {shlex.join(self._as_host())} "$host" sh -c "$*"\n'
        )
        path.chmod(0o755)
        return path

    def _describe(
        self, mpi: str, placement: str | Sequence[int], order: Sequence[int], scratch: Path
    ) -> dict[str, Any]:
        path = scratch / "topology.json"
        path.write_text(json.dumps(self.topology(order)))
        machine = scratch / "machine.json"
        machine.write_text(json.dumps(self.machine()))
        return {
            "mpi": mpi, "racks": self.racks, "hosts": self.hosts, "links": self.links, "uplink": self.uplink,
            "placement": placement, "order": list(order), "switch": self.switch, "topology": str(path),
            "machine": str(machine),
        }  # fmt: skip

    def _launch(
        self, launch: Launch, env: Mapping[str, str], timeout: float, capture: bool
    ) -> subprocess.CompletedProcess[str]:
        pipe = subprocess.PIPE if capture else None
        command = ["ip", "netns", "exec", self.switch, *launch.command]
        # a session of its own: Ctrl-C reaches this process only, which then ends the others in order
        with subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
                return subprocess.CompletedProcess(command, process.returncode, out, err)
            except subprocess.TimeoutExpired:
                stacks = f"cluster: no end after {timeout:g} s; the ranks were here:\n{self._stacks()}"
                self._end(process)
                out, err = process.communicate()
                if not capture:
                    print(stacks, file=sys.stderr, flush=True)
                return subprocess.CompletedProcess(command, TIMED_OUT, out, err + stacks if capture else None)
            except BaseException:
                self._end(process)
                raise

    def _host_namespaces(self) -> list[str]:
        return [self.namespace(host) for host in range(self.racks * self.hosts)]

    def _stacks(self) -> str:
        """Abort all ranks and return what Python's fault handler says: where each of them was.

        The launchers stand still meanwhile, else they would end the other ranks as soon as the first is gone; so the
        stacks are read from the pipes that the launchers would have read.
        """
        pids = [pid for namespace in self._host_namespaces() for pid in namespaces.pids_in(namespace)]
        ranks = {pid: rank for pid in pids if (rank := _rank_of(pid)) is not None}
        for pid in set(pids) - set(ranks):
            namespaces.send(pid, signal.SIGSTOP)
        pipes = {pid: pipe for pid in ranks if (pipe := _stderr_of(pid)) is not None}
        for pid in pipes:
            namespaces.send(pid, signal.SIGABRT)
        time.sleep(1)
        said = []
        for pid, pipe in sorted(pipes.items(), key=lambda item: ranks[item[0]]):
            with contextlib.suppress(BlockingIOError):
                said.append(f"-- rank {ranks[pid]}\n{os.read(pipe, 1 << 16).decode(errors='replace')}")
            os.close(pipe)
        namespaces.end_processes(self._host_namespaces())
        return "".join(said)

    def _end(self, process: subprocess.Popen[str]) -> None:
        """Ask the launcher to end, then end it and everything on the hosts."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(5)
        namespaces.end_processes([self.switch, *self._host_namespaces()])

    def topology(self, order: Sequence[int]) -> dict[str, Any]:
        """The placement file of a run whose rank i sits on host order[i]."""
        rows = [[f"r{host // self.hosts}", f"h{host}"] for host in order]
        return {"format": "topocomm-placement", "version": 1, "levels": ["rack", "node"], "ranks": rows}
