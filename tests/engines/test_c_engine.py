"""Engine ``c`` under mpiexec: one launch a rank count, which runs all checks of ``c_engine.py``."""

import re
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from launch import launch

from bench.cluster import Cluster, why_not

PROGRAM = Path(__file__).parent / "c_engine.py"
REASON = why_not()


CASES = [(ranks, "mpi") for ranks in (1, 2, 3, 4, 5, 8)] + [(2, "puts"), (4, "puts"), (3, "faulty")]
CASES += [(ranks, "shm") for ranks in (1, 2, 3, 5, 8)] + [(2, "pieces"), (4, "pieces")]


@pytest.mark.parametrize(("ranks", "way"), CASES)
def test_every_check_passes(ranks: int, way: str) -> None:
    """Over MPI's messages, notified puts of libfabric, a simulated network before those, and shared memory."""
    done = launch(ranks, ["-m", "mpi4py", str(PROGRAM), way], timeout=240)
    _all_checks_passed(done)


@pytest.mark.skipif(REASON is not None, reason=f"no cluster can be emulated here: {REASON}")
def test_every_check_passes_between_hosts() -> None:
    """Over puts alone, so nothing but our own asking lets MPI move what the program sends beside a collective."""
    with Cluster(racks=2, hosts=1, link="10gbit", uplink="10gbit") as made:
        command = [sys.executable, "-m", "mpi4py", str(PROGRAM), "puts"]
        _all_checks_passed(made.mpiexec(command, placement=[0, 1], timeout=240, capture=True))


@pytest.mark.skipif(REASON is not None, reason=f"no cluster can be emulated here: {REASON}")
def test_every_check_passes_over_shared_memory_and_puts() -> None:
    """In one program: shared memory between the ranks of a host, puts between hosts."""
    with Cluster(racks=2, hosts=1, link="10gbit", uplink="10gbit") as made:
        command = [sys.executable, "-m", "mpi4py", str(PROGRAM), "mixed"]
        _all_checks_passed(made.mpiexec(command, placement=[0, 0, 1, 1], timeout=240, capture=True))


def _all_checks_passed(done: CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    checks = re.findall(r"^def (check_\w+)", PROGRAM.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^ok (\w+)", done.stdout, re.MULTILINE) == checks
