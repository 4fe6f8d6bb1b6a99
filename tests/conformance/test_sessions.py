"""Programs without MPI_Init: nothing may touch MPI.COMM_WORLD or MPI.COMM_SELF, which they do not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launch import launch

PROGRAM = str(Path(__file__).with_name("sessions.py"))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize(("where", "named"), [("flat", "automatic"), ("apart", "automatic"), ("apart", "named")])
def test_a_communicator_of_a_session(where: str, named: str, ranks: int) -> None:
    done = launch(ranks, [PROGRAM, where, named], timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["right"] * ranks


@pytest.mark.parametrize("transports", ["ofi", "shm"])
def test_transports_of_a_session(transports: str) -> None:
    """Puts are left aside: processes are numbered by MPI.COMM_WORLD, which is not there."""
    done = launch(3, [PROGRAM, "apart", "named"], timeout=60, env={"TOPOCOMM_TRANSPORTS": transports})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["right"] * 3


def test_topologies_by_file_and_by_probing(tmp_path: Path) -> None:
    rows = {"format": "topocomm-placement", "version": 1, "levels": ["node"], "ranks": [["a"], ["b"], ["a"]]}
    (tmp_path / "place.json").write_text(json.dumps(rows))
    for where in (str(tmp_path / "place.json"), "measured"):
        done = launch(3, [PROGRAM, where, "automatic"], timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["right"] * 3
