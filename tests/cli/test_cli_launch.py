"""The launcher of the tests: what it passes on, and what it shows of a job that hangs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from launch import LaunchTimeoutError, launch

HANG = """
import os
from mpi4py import MPI
os.write(1, f"rank {MPI.COMM_WORLD.rank} pid {os.getpid()}\\n".encode())
def waits_for_nobody():
    MPI.COMM_WORLD.Barrier() if MPI.COMM_WORLD.rank else MPI.COMM_WORLD.recv(source=1)
waits_for_nobody()
"""


def test_output_exit_code_and_environment() -> None:
    code = "import os, sys; print(os.environ['GREETING'], flush=True); sys.exit(7)"
    done = launch(2, ["-c", code], env={"GREETING": "hello"})
    assert done.returncode == 7
    assert "hello" in done.stdout


def test_every_rank_of_a_hung_job_shows_its_stack_and_dies() -> None:
    with pytest.raises(LaunchTimeoutError) as caught:
        launch(3, ["-c", HANG], timeout=8)
    assert caught.value.stderr.count("waits_for_nobody") == 3, str(caught.value)
    pids = [int(line.split()[3]) for line in caught.value.stdout.splitlines() if line.startswith("rank")]
    assert len(pids) == 3
    assert not [pid for pid in pids if _alive(pid)]


def _alive(pid: int) -> bool:
    """Whether a process runs: it exists and is no zombie waiting to be collected."""
    if not os.path.exists(f"/proc/{pid}/stat"):
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
