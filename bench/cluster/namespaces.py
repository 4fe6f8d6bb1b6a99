"""Network namespaces by name: make one, see what runs inside, read its counters, remove it.

A namespace is named after the process that made it (pid and start time), so that one left behind by a killed process
can be distinguished from one in use.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PREFIX = "topocomm"
_counter = itertools.count()


class ClusterError(RuntimeError):
    """The emulated cluster cannot be set up or used; the message says what is missing and what to do."""


class Traffic(NamedTuple):
    """What passed a link since it was made, towards the core (up) and away from it (down)."""

    up_bytes: int
    up_packets: int
    down_bytes: int
    down_packets: int
    dropped: int

    def since(self, before: Traffic) -> Traffic:
        return Traffic(*(now - then for now, then in zip(self, before, strict=True)))


def run(command: Sequence[str], lines: Sequence[str] = ()) -> str:
    """Run one command, with a batch of lines on its input; a failure raises with the kernel's own words."""
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        raise ClusterError(
            f"{' '.join(command)}: {(done.stderr or done.stdout).strip()} "
            "(needed: a kernel with network namespaces, veth, bridge and the tbf queue)"
        )
    return done.stdout


def check_host() -> None:
    """Raise ClusterError if this process cannot make namespaces at all."""
    if os.geteuid() != 0:
        raise ClusterError("network namespaces need root; run this as root, or in a container that allows them")
    lacking = [tool for tool in ("ip", "tc", "bridge", "unshare", "mount", "hostname") if shutil.which(tool) is None]
    if lacking:
        raise ClusterError(f"not found on PATH: {', '.join(lacking)}; install iproute2, util-linux, mount and hostname")


def start_ticks(pid: int) -> str | None:
    """When a process started, in clock ticks since boot: with the pid it names the process for good."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def unique_name() -> str:
    """A name no other run has: the process that asks, when it started, and a number."""
    pid = os.getpid()
    return f"{PREFIX}-{pid}-{start_ticks(pid)}-{next(_counter)}"


def namespaces_here() -> list[str]:
    return [line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line]


def pids_in(namespace: str) -> list[int]:
    found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False, timeout=60)
    return [int(pid) for pid in found.stdout.split()]


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone by now."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def end_processes(namespaces: Sequence[str]) -> None:
    """End whatever still runs inside, and wait until it is gone."""
    for _ in range(100):
        pids = [pid for namespace in namespaces for pid in pids_in(namespace)]
        if not pids:
            return
        for pid in pids:
            send(pid, signal.SIGKILL)
        time.sleep(0.05)


def scratch_of(name: str) -> Path:
    """Where the run of this name keeps its files."""
    return Path(tempfile.gettempdir()) / name


def memory_of(name: str) -> Path:
    """Where the hosts of the run of this name have their shared memory, one folder each."""
    return Path("/dev/shm") / name


def remove_files(name: str) -> None:
    """Remove what the run of this name keeps in files."""
    for folder in (scratch_of(name), memory_of(name)):
        shutil.rmtree(folder, ignore_errors=True)


def remove(namespaces: Sequence[str]) -> None:
    """End what runs inside these namespaces and delete those that exist."""
    here = set(namespaces_here())
    there = [name for name in namespaces if name in here]
    end_processes(there)
    for namespace in there:
        try:
            run(["ip", "netns", "delete", namespace])
        except ClusterError:
            if namespace in namespaces_here():  # else another run swept it away at the same moment
                raise


def remove_leftovers() -> list[str]:
    """Remove clusters whose process is gone (killed before it could tidy up); returns the names removed."""
    pattern = re.compile(rf"({PREFIX}-(\d+)-(\d+)-\d+)-\w+")
    matches = [match for match in map(pattern.fullmatch, namespaces_here()) if match]
    stale = [match for match in matches if start_ticks(int(match[2])) != match[3]]
    remove([match[0] for match in stale])
    for name in {match[1] for match in stale}:
        remove_files(name)
    return [match[0] for match in stale]


def traffic_of(switch: str) -> dict[str, Traffic]:
    """Traffic of every uplink ("r0") and host link ("h0/e0") that ends in the namespace of the switches."""
    ports = {port["ifname"]: port["stats64"] for port in json.loads(run(["ip", "-s", "-j", "-n", switch, "link"]))}
    queues = json.loads(run(["tc", "-s", "-j", "-n", switch, "qdisc"]))
    drops = {queue["dev"]: queue["drops"] for queue in queues if queue["kind"] == "tbf"}
    found = {}
    for port, stats in ports.items():
        match = re.fullmatch(r"(h\d+)(e\d)|(r\d+)(core)", port)
        if match:
            up, down = stats["rx"], stats["tx"]
            lost = drops[port] + (drops[f"{match[3]}up"] if match[3] else 0)
            name = f"{match[1]}/{match[2]}" if match[1] else match[3]
            found[name] = Traffic(up["bytes"], up["packets"], down["bytes"], down["packets"], lost)
    return found
