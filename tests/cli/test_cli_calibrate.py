"""``calibrate``, and measured discovery asked for by library users, on one node: launched jobs, files, refusals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jobs import several
from launch import launch

from topocomm.cli import main
from topocomm.model import read_machine
from topocomm.topology import read_placement

HERE = """
import sys
from mpi4py import MPI
from topocomm import Comm, TopologyError
from topocomm.topology.live.probe import measure
world = MPI.COMM_WORLD
shares = []
found = measure(world, seconds=2, progress=shares.append)
alone = measure(world, seconds=1, by_name=False)
asked = Comm(world, topology="measured").machine_topology
half = Comm(world.Split(world.rank % 2), topology="measured").machine_topology
try:
    measure(world, seconds=0)
except TopologyError as error:
    refused = str(error)
if world.rank == 0:
    print(found.flat, 0 < found.confidence <= 1, found.ends, found.names, sep="|")
    print(alone.flat, alone.names, asked.levels, half.size, sep="|")
    print(refused, shares == sorted(shares), 0 < shares[0] < shares[-1] <= 1, sep="|")
"""


def test_one_node_is_flat_to_library_users() -> None:
    done = launch(4, ["-c", HERE], env={"TOPOCOMM_TRACE": "1"})
    assert done.returncode == 0, done.stderr
    found, asked, refused = done.stdout.splitlines()
    assert found == "True|True|ranks|all ranks are on one host"
    assert asked == "True|host names ignored|()|2"
    assert refused == "the time for probing must be a positive number of seconds, found 0|True|True"
    assert "topocomm: measured: flat: all equally near" in done.stderr


@pytest.mark.parametrize("how", ["environment", "option"])
def test_measured_is_a_word_of_info(how: str) -> None:
    words = ["--topology", "measured"] if how == "option" else []
    env = {"TOPOCOMM_TOPOLOGY": "measured"} if how == "environment" else {}
    done = launch(2, ["-m", "topocomm", "info", *words], env=env)
    assert done.returncode == 0, done.stderr
    assert "2 ranks, in topology order" in done.stdout


def test_calibrate_measures_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine, place = tmp_path / "machine.json", tmp_path / "place.json"
    words = ["--seconds", "2", "--save", str(machine), "--save-topology", str(place)]
    done = launch(3, ["-m", "topocomm", "calibrate", *words])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# flat: all equally near\n")
    assert "one pair MB/s" in done.stdout
    assert read_placement(place).ranks == ((), (), ())
    found = read_machine(machine)
    assert found.levels == ()
    assert found.rank.up > 1e6
    assert 0 < found.overhead < 1e-2
    assert main(["explain", "allreduce", "--bytes", "1M", "--placement", str(place), "--machine", str(machine)]) == 0
    assert "allreduce" in capsys.readouterr().out


def test_calibrate_with_a_given_topology_of_unequal_places(tmp_path: Path) -> None:
    machine, site = tmp_path / "machine.json", tmp_path / "coordinates"
    site.write_text("# levels, then one rank a line\n0: 0 0 0\n1: 0 0 1\n2: 0 1 2\n3: 1 2 3\n")
    done = launch(4, ["-m", "topocomm", "calibrate", "--seconds", "2", "--topology", str(site), "--save", str(machine)])
    assert done.returncode == 0, done.stderr
    found = read_machine(machine)
    assert [level.name for level in found.levels] == ["group", "switch", "port"]
    assert all(level.up > 1e5 and level.latency >= 0 for level in found.levels)
    assert f"(from {site})" in done.stdout
    rows = [line.split()[:2] for line in done.stdout.splitlines() if not line.startswith("#")]
    assert rows[1:] == [["group", "2"], ["switch", "3"], ["port", "4"], ["rank", "4"]]


def test_refused_in_one_line_before_anything_is_measured() -> None:
    reasons = {
        "--save /nowhere/m.json": "/nowhere/m.json: cannot be written: No such file or directory",
        "--save-topology .": ".: cannot be written: Is a directory",
        "--topology /nowhere/place.json": "/nowhere/place.json: cannot be read",
        "--seconds 0": "'0' is not a positive number of seconds",
    }
    found = several(2, *(f"calibrate {words}" for words in reasons))
    for (out, err, code), reason in zip(found, reasons.values(), strict=True):
        assert (out, code) == ([], 2)
        said = [line for line in err if "error:" in line]
        assert len(said) == 1, err
        assert reason in said[0]
        assert not any("Traceback" in line or "calibrate: l" in line for line in err)


@pytest.mark.parametrize(("ranks", "words"), [(1, []), (2, ["--save", "/nowhere/m.json"])])
def test_a_refused_job_ends(ranks: int, words: list[str]) -> None:
    done = launch(ranks, ["-m", "topocomm", "calibrate", *words])
    assert done.returncode != 0
    assert done.stderr.count("error:") == 1, done.stderr
    assert ("cannot be written" if words else "needs at least 2 ranks") in done.stderr


@pytest.mark.parametrize("words", [["calibrate"], ["info", "--topology", "measured"]])
def test_without_mpiexec_it_says_how_to_start(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("PMI", "OMPI_", "PALS_")):
            monkeypatch.delenv(name)
    assert main(words) == 2
    assert "start it under mpiexec" in capsys.readouterr().err
