"""Waiting in engine ``c`` through shared memory: MPI is driven, lost and stopped ranks are named, Ctrl-C works."""

import subprocess
import sys
from pathlib import Path

import pytest
from launch import environment, launch, mpiexec

PROGRAM = str(Path(__file__).parent / "waiting.py")
OVER_A_NETWORK = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self,tcp", "MPIR_CVAR_NOLOCAL": "1"}
"""MPI's own messages between ranks of this host move as between hosts: only while both ends make MPI calls."""


def test_mpi_is_driven() -> None:
    done = launch(2, [PROGRAM, "driven"], timeout=60, env=OVER_A_NETWORK)
    assert done.stdout.count("passed") == 2, done.stdout + done.stderr


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_killed_rank_is_named(tmp_path: Path, ranks: int) -> None:
    version = subprocess.run([mpiexec(), "--version"], capture_output=True, text=True, check=True).stdout
    lets_live = "-disable-auto-cleanup" if "HYDRA" in version else "--enable-recovery"
    folder = tmp_path / "said"
    folder.mkdir()
    words = [sys.executable, PROGRAM, "killed", str(folder), str(ranks - 1)]
    command = [str(mpiexec()), lets_live, "-n", str(ranks), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment())
    said = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert len(said) == ranks - 1, done.stdout + done.stderr
    for rank in range(ranks - 1):
        text = said[str(rank)]
        assert text.startswith(f"rank {rank} waits for rank {ranks - 1} (process "), text
        assert "has ended" in text


def test_a_stopped_rank_is_named_and_may_go_on() -> None:
    done = launch(2, [PROGRAM, "stopped"], timeout=60)
    assert done.stdout.count("passed") == 2, done.stdout + done.stderr
    assert done.stderr.count("topocomm: rank 0 waits for rank 1 (process ") == 1
    assert "which is stopped" in done.stderr


def test_a_wait_can_be_interrupted() -> None:
    done = launch(2, [PROGRAM, "interrupted"], timeout=60)
    assert done.stdout.count("passed") == 2, done.stdout + done.stderr
