"""The rooms without MPI import without mpi4py, in order, and ``import topocomm`` does not start MPI."""

import subprocess
import sys

import pytest

WITHOUT_MPI = (
    "topology",
    "schedule",
    "tree",
    "layout",
    "compose",
    "reorder",
    "algorithms",
    "model",
    "verify",
    "plan",
    "choice",
    "select",
    "tuning",
    "engines.local",
    "cli.list",
    "cli.verify",
    "cli.explain",
    "cli.simulate",
)

ORDER = (
    ("errors", "topology", "schedule"),
    ("layout", "tree", "compose", "reorder", "algorithms", "model"),
    ("verify", "tuning"),
    ("plan", "choice", "select"),
    ("engines", "rma"),
    ("comm", "calls", "buffers", "runtime", "config", "given"),
    ("cli",),
)

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mpi4py":
            raise ImportError("mpi4py is blocked")
sys.meta_path.insert(0, Block())
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rooms_import_without_mpi4py():
    rooms = [f"topocomm.{room}" for room in WITHOUT_MPI]
    assert (
        python(f"{BLOCK}\nfrom importlib import import_module\nfor r in {rooms!r}: import_module(r)\nprint('all')")
        == "all\n"
    )


def test_the_block_blocks():
    code = f"{BLOCK}\ntry:\n    import topocomm.runtime\nexcept ImportError as e:\n    print(e)"
    assert python(code) == "mpi4py is blocked\n"


def test_import_topocomm_does_not_start_mpi():
    assert python("import sys, topocomm; print([m for m in sys.modules if m.startswith('mpi4py')])") == "[]\n"


@pytest.mark.parametrize("room", [room for row in ORDER[:5] for room in row if room not in ("rma", "engines")])
def test_a_room_imports_no_later_room(room):
    code = f"import sys, topocomm.{room}; print(*(m for m in sys.modules if m.startswith('topocomm.')))"
    loaded = {name.split(".")[1] for name in python(code).split()}
    mine = next(i for i, row in enumerate(ORDER) if room in row)
    known = {other: i for i, row in enumerate(ORDER) for other in row}
    assert room in loaded
    assert loaded <= set(known), f"rooms that this test does not know: {loaded - set(known)}"
    assert {other for other in loaded if known[other] > mine} == set()
