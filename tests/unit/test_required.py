"""What must be there may not be skipped: the hook in tests/conftest.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.skipif(True, reason="needs libfabric and its headers")
@pytest.mark.parametrize("n", range(3))
def test_network(n):
    pass

def test_other():
    pass
"""


@pytest.mark.parametrize(("require", "code"), [("", 0), ("compiler,libfabric", 1), ("compiler", 0)])
def test_skips_of_what_is_required_fail(tmp_path: Path, require: str, code: int) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_skipped.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:mpi", str(tmp_path)]
    env = {**os.environ, "TESTS_REQUIRE": require}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert "1 passed, 3 skipped" in done.stdout
    assert ("but 3 were skipped" in done.stdout) == bool(code)
