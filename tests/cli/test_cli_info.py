"""``info`` under mpiexec, without it, and with a placement file."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch import launch
from test_cli_main import topocomm

from topocomm.cli import main

BY_RANK = """{"format": "topocomm-placement", "version": 1, "levels": ["switch", "node"],
 "ranks": [["s0", "a"], ["s1", "b"], ["s0", "c"]]}"""
BY_NODE = """{"format": "topocomm-placement", "version": 1, "levels": ["switch"],
 "nodes": {"a": ["s0"], "b": ["s1"]}}"""


@pytest.mark.parametrize("from_file", [False, True])
def test_under_mpiexec_rank_0_shows_the_topology(tmp_path: Path, from_file: bool) -> None:
    path = tmp_path / "place.json"
    path.write_text(BY_RANK)
    done = launch(3, ["-m", "topocomm", "info", *(["--topology", str(path)] if from_file else [])])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.partition("transports of notified RMA:")[0].splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    assert len(facts) == len(lines)
    assert facts["ranks"].strip() == "3 on 1 node"
    assert facts["MPI library"].split()[0] in ("MPICH", "Open")
    assert facts["topology"].strip().startswith("3 ranks, 2 switch" if from_file else "3 ranks, 1 node of 3")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (BY_RANK, "3 ranks, 2 switch"),
        (BY_NODE, "2 nodes, levels switch > node"),
    ],
)
def test_a_file_is_described_without_mpi(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    path = tmp_path / "place.json"
    path.write_text(text)
    assert main(["info", "--topology", str(path)]) == 0
    assert shown in capsys.readouterr().out


def test_a_malformed_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "place.json"
    path.write_text("{}")
    assert main(["info", "--topology", str(path)]) == 2
    assert "place.json" in capsys.readouterr().err


def test_without_mpiexec_mpi_is_not_started() -> None:
    code = """
import sys
from topocomm.cli import main
code = main()
from mpi4py import MPI
print("started" if MPI.Is_initialized() else "idle")
sys.exit(code)
"""
    done = topocomm("info", code=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("idle\n")
    assert "MPI library:" in done.stdout
