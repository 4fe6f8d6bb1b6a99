"""Launching programs under the mpiexec beside the running Python, with a time limit that ends the whole job."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from launch import environment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MPIEXEC = Path(sys.executable).with_name("mpiexec")


def run(command: list[str], limit: float = 60, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Return code and output; a job past its limit is killed with all its children, and says so."""
    settings = environment({"PYTHONPATH": f"{ROOT}:{HERE}", **(env or {})})
    job = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=settings, start_new_session=True
    )
    try:
        output, _ = job.communicate(timeout=limit)
        return job.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        output, _ = job.communicate()
        return -1, f"{output}\nkilled: not done within {limit} s: {' '.join(command)}"
