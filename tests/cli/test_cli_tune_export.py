"""Exported rules in the hands of the MPI library they are for: it follows them, and every result stays right."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from launch import environment, launch

from topocomm.algorithms import TABLE
from topocomm.choose.export import mpich, openmpi
from topocomm.choose.measured import Entry, Timing, Tuning, class_of, dumps_tuning
from topocomm.cli import main

RANKS = 5
PROGRAM = str(Path(__file__).with_name("exported_rules.py"))
BASE = 1024 * RANKS


def tuning(same: dict[str, dict[str, str]], name: str) -> Tuning:
    """A file in which every algorithm that the library has is the best at a size of its own."""
    entries = []
    for collective, table in same.items():
        names = [n for n in table if not TABLE[collective][n].power_of_two]
        names.sort(key=lambda n: n != "textbook_ring")
        for i, best in enumerate(names):
            times = {"native": Timing(2.0, 9, 0.1), best: Timing(1.0, 9, 0.1)}
            entries.append(
                Entry(collective, BASE * 4**i if collective != "barrier" else 0, RANKS, "0" * 16, class_of(collective),
                      name, "python", "2026-01-31T23:59:59Z", times)
            )  # fmt: skip
    return Tuning(tuple(entries))


SIZES = [BASE // 4, BASE, BASE * 4, BASE * 16]
FORCED = {
    "MPICH": {"MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": "ring"},
    "Open MPI": {"OMPI_MCA_coll_tuned_use_dynamic_rules": "1", "OMPI_MCA_coll_tuned_allreduce_algorithm": "4"},
}


def prints(env: dict[str, str], order: str = "check") -> dict[str, list[str]]:
    """What the program prints of its allreduces, all results being right."""
    return _prints(tuple(env.items()), order)


@cache
def _prints(env: tuple[tuple[str, str], ...], order: str) -> dict[str, list[str]]:
    done = launch(RANKS, ["-m", "mpi4py", PROGRAM, ",".join(map(str, SIZES)), order], timeout=100, env=dict(env))
    assert done.returncode == 0, done.stderr
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith(("all", "fewer"))}


ASK = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.get_vendor()[0])
print(*sorted({line.split()[-1] for line in open("/proc/self/maps") if "/libmpi.so" in line}))
"""


@pytest.fixture(scope="module")
def library() -> tuple[str, str]:
    """Name and file of the MPI library of this environment."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, timeout=60, check=True, env=environment()
    )
    name, path = done.stdout.splitlines()
    if name not in FORCED:
        pytest.skip(f"no exporter for {name}")
    return name, path


def exported(name: str, path: str, folder: Path, commutative: bool) -> dict[str, str]:
    """Export a file in which all is tuned; the environment that makes the library use it."""
    same = mpich.EQUIVALENTS if name == mpich.NAME else openmpi.equivalents(True)
    source, rules = folder / "tuning.json", folder / "rules"
    source.write_text(dumps_tuning(tuning(dict(same), f"{name} 1")))
    words = ["tune", "--from", str(source), "--output", str(rules), "--export"]
    if name == mpich.NAME:
        assert main([*words, "mpich", "--base", path]) == 0
        return {"MPIR_CVAR_COLL_SELECTION_TUNING_JSON_FILE": str(rules)}
    assert main([*words, "openmpi", *(["--commutative"] if commutative else [])]) == 0
    return {
        "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
        "OMPI_MCA_coll_tuned_dynamic_rules_filename": str(rules),
    }


def test_the_library_follows_the_rules_and_every_result_is_right(library: tuple[str, str], tmp_path: Path) -> None:
    name, path = library
    with_rules = prints(exported(name, path, tmp_path, commutative=False))
    own, ring = prints({}), prints(FORCED[name], order="ignore")
    assert [a == b for a, b in zip(own["all"], ring["all"], strict=True)] == [False] * len(SIZES)
    at_ring = name == mpich.NAME  # which asks whether an operation is commutative
    assert with_rules["all"][1] == (ring if at_ring else own)["all"][1]
    assert with_rules["all"][0] == own["all"][0], "a size that was not tuned"
    assert with_rules["fewer"] == own["fewer"], "a number of ranks that was not tuned"


def test_open_mpi_takes_a_ring_only_where_all_operations_are_commutative(
    library: tuple[str, str], tmp_path: Path
) -> None:
    name, path = library
    if name != openmpi.NAME:
        pytest.skip("for Open MPI")
    with_rules = prints(exported(name, path, tmp_path, commutative=True), order="ignore")
    ring = prints(FORCED[name], order="ignore")
    assert with_rules["all"][1] == ring["all"][1]
    assert with_rules["all"][2] != ring["all"][2]
