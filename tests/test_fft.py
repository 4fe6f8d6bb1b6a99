"""mpi4py-fft, unmodified, with our Alltoallw: the example is right, and the calls are ours."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from launch import launch

ROOT = Path(__file__).parents[1]
COUNTED = """
import runpy, sys
from mpi4py import MPI
from topocomm.comm import vectors

made, exchange = [], vectors.exchange
vectors.exchange = lambda *args: made.append(1) or exchange(*args)
sys.argv = [{example!r}]
runpy.run_path({example!r}, run_name="__main__")
if MPI.COMM_WORLD.rank == 0:
    print("exchanges", len(made))
"""

pytestmark = pytest.mark.skipif(find_spec("mpi4py_fft") is None, reason="mpi4py-fft is not installed")


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("algorithm", ["native", "pairwise"])
def test_example_is_right_and_exchanges_are_ours(ranks: int, algorithm: str, tmp_path: Path) -> None:
    path = tmp_path / "counted.py"
    path.write_text(COUNTED.format(example=str(ROOT / "examples" / "fft")))
    done = launch(ranks, ["-m", "topocomm", "run", "--algorithm", f"alltoall={algorithm}", str(path)], timeout=120)
    assert done.returncode == 0, done.stderr
    assert "ranks: right" in done.stdout
    ours = ranks > 1 and algorithm == "pairwise"
    assert (int(done.stdout.split("exchanges ")[1]) > 0) == ours, done.stdout
