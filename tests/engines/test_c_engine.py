"""Engine ``c`` under mpiexec: one launch a rank count, which runs all checks of ``c_engine.py``."""

import re
from pathlib import Path

import pytest
from launch import launch

PROGRAM = Path(__file__).parent / "c_engine.py"


CASES = [(ranks, "mpi") for ranks in (1, 2, 3, 4, 5, 8)] + [(2, "puts"), (4, "puts"), (3, "faulty")]


@pytest.mark.parametrize(("ranks", "way"), CASES)
def test_every_check_passes(ranks: int, way: str) -> None:
    """Over MPI's messages, over notified puts of libfabric, and over a simulated network before those."""
    done = launch(ranks, ["-m", "mpi4py", str(PROGRAM), way], timeout=240)
    assert done.returncode == 0, done.stderr
    checks = re.findall(r"^def (check_\w+)", PROGRAM.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^ok (\w+)", done.stdout, re.MULTILINE) == checks
