"""A lost peer is named by every waiter: killed, in shared memory, on a network, between emulated hosts; or silent."""

import os
import subprocess
import sys
import time

import pytest
from launch import environment
from launching import HERE, ROOT

from topocomm import rma

HAVE_FABRIC = any(c.transport == "ofi" and c.present for c in rma.capabilities())


def start(command, folder, size, transport):
    env = environment({"PYTHONPATH": f"{ROOT}:{HERE}"})
    jobs = []
    for rank in range(size):
        program = [sys.executable, str(HERE / "programs" / "lost_peer.py")]
        line = [*command(rank), *program, str(folder), str(rank), str(size), transport]
        jobs.append(subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    end, outputs = time.monotonic() + 60, []
    for job in jobs:
        try:
            outputs.append(job.communicate(timeout=max(0.1, end - time.monotonic()))[0])
        except subprocess.TimeoutExpired:
            job.kill()
            outputs.append(job.communicate()[0] + "\nkilled after 60 s")
    for rank, (job, output) in enumerate(zip(jobs, outputs, strict=True)):
        if rank != 1:
            assert job.returncode == 0, f"rank {rank}:\n{output}"
            assert "passed" in output


@pytest.mark.parametrize("transport", ["shm", "ofi"])
def test_on_one_node(tmp_path, transport):
    if transport == "ofi" and not HAVE_FABRIC:
        pytest.skip("needs libfabric")
    start(lambda rank: [], tmp_path, 3, transport)


def other_hosts() -> bool:
    return subprocess.run(["unshare", "--uts", "hostname", "probe"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not HAVE_FABRIC, reason="needs libfabric")
@pytest.mark.skipif(not other_hosts(), reason="needs namespaces")
def test_between_hosts(tmp_path):
    start(lambda rank: ["unshare", "--uts", "sh", "-c", f'hostname host{rank}; exec "$@"', "sh"], tmp_path, 3, "ofi")


HOSTS = [f"tcs{os.getpid()}h{rank}" for rank in range(2)]


def ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0


def running(host: str) -> bool:
    shown = subprocess.run(["ip", "-n", host, "link", "show", "wire"], capture_output=True, text=True, check=False)
    return "LOWER_UP" in shown.stdout and "state UP" in shown.stdout


@pytest.fixture
def wire():
    """Two hosts joined by one link."""
    made = all(ip("netns", "add", host) for host in HOSTS)
    ends = [f"tcs{os.getpid() % 100000}e{rank}" for rank in range(2)]
    made = made and ip(
        "link", "add", ends[0], "netns", HOSTS[0], "type", "veth", "peer", "name", ends[1], "netns", HOSTS[1]
    )
    for rank in range(2):
        made = made and ip("-n", HOSTS[rank], "link", "set", ends[rank], "name", "wire")
        made = made and ip("-n", HOSTS[rank], "addr", "add", f"10.198.0.{rank + 1}/24", "dev", "wire")
        made = made and all(ip("-n", HOSTS[rank], "link", "set", device, "up") for device in ("lo", "wire"))
    end = time.monotonic() + 10
    while made and time.monotonic() < end and not all(running(host) for host in HOSTS):
        time.sleep(0.05)  # a link just made is of no use to libfabric until the kernel says it runs
    try:
        if not made:
            pytest.skip("needs namespaces and the right to join them")
        yield
    finally:
        for host in HOSTS:
            ip("netns", "delete", host)


@pytest.mark.skipif(not HAVE_FABRIC, reason="needs libfabric")
def test_a_silent_host(tmp_path, wire):
    """Nothing is closed, and nothing answers any more: keep-alive probes must notice."""
    program, jobs = str(HERE / "programs" / "silent_peer.py"), []
    env = environment({"PYTHONPATH": f"{ROOT}:{HERE}"})
    for rank in range(2):
        other = [
            "ip",
            "netns",
            "exec",
            HOSTS[rank],
            "unshare",
            "--uts",
            "sh",
            "-c",
            f'hostname host{rank}; exec "$@"',
            "sh",
        ]
        line = [*other, sys.executable, program, str(tmp_path), str(rank), "1"]
        jobs.append(subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    try:
        end = time.monotonic() + 30
        while not (tmp_path / "cut").exists() and jobs[0].poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert ip("-n", HOSTS[1], "addr", "flush", "dev", "wire")  # what comes is no longer for this host: no answer
        (tmp_path / "silent").touch()
        output = jobs[0].communicate(timeout=30)[0]
        assert jobs[0].returncode == 0, output
        assert "passed" in output
    finally:
        for job in jobs:
            job.kill()
            job.wait()
