"""A build without libfabric, and one that does not find it at run time: absent by name, and the rest works."""

import shutil
import sys
from pathlib import Path

import pytest
from launching import HERE, MPIEXEC, ROOT, run

COMPILER = shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a compiler")
REPORT = "from topocomm import rma; print(rma.report())\n"
ASK = """
from topocomm import rma
from topocomm.rma.capability import _Alone
rma.Context(_Alone(), transports=["ofi"])
"""


def run_in(folder: Path, program: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Runs it from a file in ``folder``, whose topocomm it then imports if there is one."""
    (folder / "program.py").write_text(program)
    return run([sys.executable, str(folder / "program.py")], env=env)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, built with TOPOCOMM_LIBFABRIC=0."""
    folder = tmp_path_factory.mktemp("bare")
    for part in ("topocomm", "csrc"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.o"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    code, output = run(
        ["sh", "-c", f'cd "{folder}" && exec "{sys.executable}" setup.py -q build_ext --inplace'],
        limit=120, env={"TOPOCOMM_LIBFABRIC": "0"},
    )  # fmt: skip
    assert code == 0, output
    return folder


@needs_compiler
def test_report_names_it(bare: Path) -> None:
    code, output = run_in(bare, REPORT)
    assert code == 0, output
    line = next(line for line in output.splitlines() if line.startswith("ofi"))
    assert "absent" in line
    assert "built without libfabric (its headers were not found)" in line


PROGRAMS = [
    ("all_to_all.py", "shm", "1", "1", "6"),
    ("all_to_all.py", "mpi", "0", "1", "6"),
    ("patterns.py", "mpi"),
    ("features.py", "shm"),
    ("bad_input.py", "shm"),
]


@needs_compiler
@pytest.mark.skipif(not MPIEXEC.exists(), reason=f"needs mpiexec beside {sys.executable}")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: f"{p[0]} over {p[1].replace('mpi', 'messages')}")
def test_other_transports(bare: Path, program: tuple[str, ...]) -> None:
    ranks = 1 if program[0] == "bad_input.py" else 2
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, str(HERE / "programs" / program[0]), *program[1:]]
    code, output = run(command, env={"PYTHONPATH": f"{bare}:{HERE}"})
    assert code == 0, output
    assert output.count("passed") == ranks, output


@needs_compiler
def test_asking_for_it_says_why_not(bare: Path) -> None:
    code, output = run_in(bare, ASK)
    assert code == 1
    assert "TransportError: rank 0 cannot open its context: ofi is absent: built without libfabric (its" in output


@needs_compiler
def test_a_library_without_the_interface_is_named(tmp_path: Path) -> None:
    """In place of libfabric, a library that lacks all of its functions."""
    (tmp_path / "empty.c").write_text("int nothing;\n")
    library = str(tmp_path / "libfabric.so.1")
    code, output = run(
        [str(COMPILER), "-shared", "-fPIC", "-Wl,-soname,libfabric.so.1", str(tmp_path / "empty.c"), "-o", library]
    )
    assert code == 0, output
    code, output = run_in(tmp_path, REPORT, {"LD_LIBRARY_PATH": str(tmp_path)})
    assert code == 0, output
    line = next(line for line in output.splitlines() if line.startswith("ofi"))
    assert "absent" in line
    if "built without" not in line:  # as this build may be
        assert "libfabric.so.1 is not there, or older than it was at build time" in line
