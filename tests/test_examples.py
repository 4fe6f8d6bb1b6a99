"""Every example runs, and every block of the README does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from launch import launch

from topocomm.topology import dumps_placement, parse_placement, two_level

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

EXAMPLES = {
    "one_line.py": (4, "total 6.0"),
    "choose_and_explain.py": (6, "rabenseifner on engine c, reordering none; named by communicator argument"),
    "cg.py": (4, "mpi4py.MPI.Intracomm"),
    "digits.py": (3, "unseen digits read correctly"),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example(name: str) -> None:
    ranks, says = EXAMPLES[name]
    done = launch(ranks, [str(ROOT / "examples" / name)], timeout=120)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def test_existing_program_unchanged_under_run() -> None:
    done = launch(4, ["-m", "topocomm", "run", str(ROOT / "examples" / "cg.py")], timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mpi4py.MPI.Comm: ")  # without run it is mpi4py.MPI.Intracomm


def test_every_example_is_tried() -> None:
    here = {path.name for path in (ROOT / "examples").glob("*.py") if not path.name.startswith("rma_")}
    assert here == set(EXAMPLES)


def test_python_blocks_of_the_readme(tmp_path: Path) -> None:
    program = "import numpy as np\n" + blocks("python")[0] + "x, y = np.ones(9), np.empty(9)\n" + blocks("python")[1]
    program += "assert (y == comm.size).all()\n"
    path = tmp_path / "readme.py"
    path.write_text(program)
    done = launch(3, ["-m", "mpi4py", str(path)])
    assert done.returncode == 0, done.stderr
    assert "80000 bytes" in done.stdout


def test_json_block_of_the_readme_is_a_placement() -> None:
    (text,) = blocks("json")
    placement = parse_placement(text, "README")
    assert placement.topology(["nid000001", "nid000002"]).levels == ("group", "switch", "node")


def test_commands_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r"^    (?:mpiexec -n (\d+) )?python (-m topocomm .*?)\s*(?:#.*)?$", README, flags=re.M)
    assert len(lines) >= 6
    monkeypatch.chdir(tmp_path)
    (tmp_path / "placement.json").write_text(dumps_placement(two_level(4, 4)))
    quick = {"bench": ["-m", "8:64", "-i", "10"], "calibrate": ["--seconds", "4"], "verify": ["--random", "1"]}
    quick["tune"] = ["--collectives", "allreduce", "--sizes", "1K", "--repetitions", "5", "--all"]
    for ranks, command in lines:
        words = shlex.split(command)
        small = [] if "--export" in words else quick.get(words[2], [])
        small = [*small, "-x", "1"] if words[2] == "bench" and not words[3].startswith("put_") else small
        done = launch(min(int(ranks or 1), 4), [*words, *small], timeout=120)
        assert done.returncode == 0, (command, done.stderr)
