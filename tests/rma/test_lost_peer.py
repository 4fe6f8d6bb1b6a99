"""A killed peer is named by every waiter, on shared memory, on a network, and on a network between emulated hosts."""

import os
import subprocess
import sys
import time

import pytest
from launching import HERE, ROOT, SETTINGS

from topocomm import rma

HAVE_FABRIC = any(c.transport == "ofi" and c.present for c in rma.capabilities())


def start(command, folder, size, transport):
    env = {**os.environ, **SETTINGS, "PYTHONPATH": f"{ROOT}:{HERE}"}
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
