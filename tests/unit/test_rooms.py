"""The rooms of the package import each other only as ``docs/architecture.md`` draws it, lazy imports included."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import topocomm

ROOT = Path(topocomm.__path__[0])
ARCHITECTURE = ROOT.parent / "docs" / "architecture.md"

WITHOUT_MPI = (
    "topology",
    "schedule",
    "schedule.verify",
    "algorithms",
    "model",
    "plan",
    "choose.rule",
    "choose.measured",
    "choose.export.mpich",
    "engines.local",
    "cli.list",
    "cli.verify",
    "cli.explain",
    "cli.simulate",
    "cli.tune.rules",
)

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mpi4py":
            raise ImportError("mpi4py is blocked")
sys.meta_path.insert(0, Block())
"""


def arrows() -> dict[str, set[str]]:
    """The arrows of the document: each room with the rooms that it may import."""
    text = ARCHITECTURE.read_text(encoding="utf-8").split("## Arrows\n")[1].split("\n## ")[0]
    found = re.findall(r"^    (\w+) +→ +(.+)$", text, re.MULTILINE)
    return {room: {name.strip() for name in names.split(",")} - {"nothing"} for room, names in found}


def room_of(module: str) -> str:
    """The room of ``topocomm.x.y``: x; of the package itself ``door``."""
    parts = module.split(".")
    if len(parts) == 1:
        return "door"
    return parts[1]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """The topocomm modules that a file imports anywhere, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] == "topocomm")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "topocomm":
            for a in node.names:
                inner = f"{node.module}.{a.name}"
                is_module = (ROOT.parent / Path(*inner.split("."))).with_suffix(".py").exists()
                is_package = (ROOT.parent / Path(*inner.split("."))).is_dir()
                yield node.lineno, inner if is_module or is_package else str(node.module)


def crossings(root: Path) -> Iterator[tuple[str, str, str]]:
    """Every import across rooms: (file:line, its room, the other room)."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        room = "door" if parts[0] in ("__init__.py", "__main__.py") else parts[0].removesuffix(".py")
        for line, module in imported(path):
            if room_of(module) != room:
                yield f"{path.relative_to(root)}:{line}", room, room_of(module)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_room_is_in_the_document_and_no_other():
    rooms = {p.name.removesuffix(".py") for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert set(arrows()) == rooms - {"__init__", "__main__"} | {"door"}


def test_rooms_import_only_along_the_arrows():
    allowed = arrows()
    wrong = [f"{at}: {room} → {other}" for at, room, other in crossings(ROOT) if other not in allowed[room]]
    assert wrong == []


def test_the_arrows_have_no_circle_and_at_most_nine_floors():
    allowed = arrows()
    floors: dict[str, int] = {}

    def floor(room: str, above: tuple[str, ...] = ()) -> int:
        assert room not in above, f"circle: {' → '.join((*above, room))}"
        if room not in floors:
            floors[room] = 1 + max((floor(r, (*above, room)) for r in allowed[room] - {"door"}), default=0)
        return floors[room]

    assert max(floor(room) for room in allowed if room != "door") <= 9


@pytest.mark.parametrize("room", sorted(set(arrows()) - {"cli", "door"}))
def test_a_forbidden_import_is_found(room, tmp_path):
    """The check is red when a room imports what it must not: tried for each, with a lazy import."""
    forbidden = sorted(set(arrows()) - arrows()[room] - {room})[-1]
    (tmp_path / room).mkdir()
    (tmp_path / room / "bad.py").write_text(f"def f():\n    from topocomm.{forbidden} import x\n")
    assert [(mine, other) for _, mine, other in crossings(tmp_path)] == [(room, forbidden)]
    assert forbidden not in arrows()[room]


def test_rooms_import_without_mpi4py():
    rooms = [f"topocomm.{room}" for room in WITHOUT_MPI]
    assert (
        python(f"{BLOCK}\nfrom importlib import import_module\nfor r in {rooms!r}: import_module(r)\nprint('all')")
        == "all\n"
    )


def test_the_block_blocks():
    code = f"{BLOCK}\ntry:\n    import topocomm.comm.state\nexcept ImportError as e:\n    print(e)"
    assert python(code) == "mpi4py is blocked\n"


def test_of_the_topology_room_three_files_know_mpi():
    folder = ROOT / "topology"
    knowing = {str(p.relative_to(folder)) for p in folder.rglob("*.py") if "mpi4py" in p.read_text(encoding="utf-8")}
    assert knowing == {"live/discover.py", "live/meeting.py", "live/probe.py"}


def loaded(code: str) -> set[str]:
    """The modules that a program has loaded at its end."""
    return set(python(f"{code}\nimport sys\nprint(*sys.modules)").split())


def test_import_topocomm_opens_two_files_and_does_not_start_mpi():
    modules = loaded("import topocomm")
    assert {name for name in modules if name.partition(".")[0] == "topocomm"} == {"topocomm", "topocomm.errors"}
    assert not modules & {"mpi4py", "numpy"}


def test_readers_of_sites_are_loaded_when_a_file_is_read():
    wrapped = loaded("import topocomm\ntopocomm.Comm\ntopocomm.Topology")
    assert "topocomm.topology.topology" in wrapped
    assert not any(name.startswith("topocomm.topology.sites") for name in wrapped)
    assert "topocomm.topology.sites" in loaded("from topocomm.topology import read_site")


def test_what_native_calls_do_not_need_is_not_loaded():
    """A wrapped communicator without distance costs a program no more at its start than its own few files."""
    heavy = {"algorithms", "schedule", "plan", "model", "rma"}
    program = """
from mpi4py import MPI
import numpy, topocomm
comm = topocomm.Comm(MPI.COMM_SELF)
comm.Allreduce(numpy.ones(3), numpy.zeros(3))
comm.Split().Bcast(numpy.ones(3))
"""
    ours = {name for name in loaded(program) if name.startswith("topocomm.")}
    assert "topocomm.comm.comm" in ours
    assert {room_of(name) for name in ours} & heavy == set()
    more = loaded(f"{program}\ncomm.Allreduce(numpy.ones(3), numpy.zeros(3), algorithm='ring')")
    assert {room_of(name) for name in more if name.startswith("topocomm.")} > heavy - {"rma"}


def test_no_merge_is_left_unresolved():
    """No marker of a conflict stands in a file that people or programs read."""
    folders = [ROOT.parent / name for name in ("topocomm", "csrc", "bench", "docs", "examples", "tests")]
    files = [*ROOT.parent.glob("*.*"), *(path for folder in folders for path in folder.rglob("*.*"))]
    read = [path for path in files if path.suffix in {".py", ".pyi", ".md", ".c", ".h", ".cpp", ".json", ".toml"}]
    marked = [path for path in read if re.search(r"^(<<<<<<<|>>>>>>>) ", path.read_text(encoding="utf-8"), re.M)]
    assert len(read) > 500
    assert marked == []
