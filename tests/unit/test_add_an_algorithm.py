"""The example of docs/add-an-algorithm.md: its file and its line, put into a copy of the package as the page says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import topocomm

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-an-algorithm.md").read_text()
FILE, LINE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a copy of topocomm that has the algorithm."""
    at = tmp_path_factory.mktemp("copy")
    package = Path(shutil.copytree(Path(topocomm.__file__).parent, at / "topocomm"))
    (package / "algorithms" / "two_way_ring.py").write_text(FILE)
    table = package / "algorithms" / "table.py"
    before = table.read_text()
    after = before.replace('    "ring",\n', f'    "ring",\n{LINE}')
    assert len(after.splitlines()) == len(before.splitlines()) + 1
    table.write_text(after)
    return at


def run(copy: Path, *arguments: str, status: int = 0) -> str:
    """Run a module of the copy, from its folder, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=copy,
        check=False,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_is_listed(copy: Path) -> None:
    rows = run(copy, "topocomm", "list", "allgather", "-p", "7,8").splitlines()
    assert any(row.split()[1:2] == ["two_way_ring"] or " two_way_ring " in row for row in rows)


def test_its_schedules_and_programs_are_proved(copy: Path) -> None:
    out = run(copy, "topocomm", "verify", "allgather", "reduce_scatter", "--algorithm", "two_way_ring", "-p", "1:12")
    assert len(re.findall(r"two_way_ring", out)) >= 2


def test_its_figures_and_header_are_checked_by_the_tests_that_are_there(copy: Path) -> None:
    tests = ROOT / "tests" / "unit" / "test_algorithms.py"
    options = "-q", "-p", "no:cacheprovider", "-o", f"pythonpath={ROOT / 'tests'}"  # not the tree's own package
    out = run(copy, "pytest", *options, str(tests), "-k", "two_way_ring and (equals or header)")
    assert re.search(r"\b4 passed", out)


def test_a_wrong_block_is_found(copy: Path) -> None:
    """The page's own promise: a mistake in the rounds does not pass."""
    file = copy / "topocomm" / "algorithms" / "two_way_ring.py"
    file.write_text(FILE.replace("one((r + 1 - k) % p)", "one((r + 2 - k) % p)"))
    try:
        verify = "topocomm", "verify", "reduce_scatter", "--algorithm", "two_way_ring", "-p", "1:6", "--random", "0"
        assert "two_way_ring" in run(copy, *verify, status=1)
    finally:
        file.write_text(FILE)
