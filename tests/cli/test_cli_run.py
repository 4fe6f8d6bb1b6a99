"""``run``: the program sees what Python would show it, and a wrapped MPI.COMM_WORLD."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest
from launch import environment, launch


def run(ranks: int, *words: str, env: dict[str, str] | None = None) -> CompletedProcess[str]:
    return launch(ranks, ["-m", "topocomm", "run", *words], timeout=60, env=env)


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "program.py"
    path.write_text(text)
    return str(path)


def shown(done: CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


WRAPPED = """
from mpi4py import MPI
import topocomm
import numpy as np
comm = MPI.COMM_WORLD
halves = comm.Split(comm.rank % 2)
twin = comm.Dup()
total = np.zeros(3)
comm.Allreduce(np.full(3, comm.rank + 1.0), total)
kinds = {type(c) for c in (comm, halves, twin)}
right = kinds == {topocomm.Comm} and isinstance(comm, MPI.Intracomm) and (total == 6).all() and comm.allreduce(1) == 3
if comm.gather(bool(right)) == [True] * 3:
    print("all wrapped")
"""


def test_the_world_and_what_is_made_from_it_are_wrapped(tmp_path: Path) -> None:
    assert shown(run(3, program(tmp_path, WRAPPED))) == ["all wrapped"]


@pytest.mark.parametrize("option", [["--algorithm", "ring"], ["--algorithm", "allreduce=ring,bcast=native"]])
def test_the_algorithm_is_the_one_named(tmp_path: Path, option: list[str]) -> None:
    text = """
from mpi4py import MPI
if MPI.COMM_WORLD.rank == 0:
    print(MPI.COMM_WORLD.explain("allreduce", 8).algorithm)
"""
    assert shown(run(3, *option, program(tmp_path, text))) == ["ring"]


def test_the_program_sees_its_own_arguments_main_and_path(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("VALUE = 42\n")
    text = """
import sys, __main__, pickle, neighbour
class Local: pass
pickle.loads(pickle.dumps(Local()))
print(__name__, sys.argv[1:], sys.argv[0] == __file__, __main__.Local is Local, neighbour.VALUE, sys.path[0])
"""
    path = program(tmp_path, text)
    done = run(1, "--trace", path, "--algorithm", "x", "-m", "-c", "--", "-h")
    arguments = ["--algorithm", "x", "-m", "-c", "--", "-h"]
    assert shown(done) == [f"__main__ {arguments} True True 42 {tmp_path.resolve()}"]


def test_file_is_absolute_as_in_python(tmp_path: Path) -> None:
    program(tmp_path, "import sys\nprint(__file__, sys.argv[0], __package__, __spec__)\n")
    code = "import os, sys; os.chdir(sys.argv.pop(1)); from topocomm.cli import main; sys.exit(main())"
    for words in (["run", "program.py"], ["run", "./program.py"]):
        done = launch(1, ["-c", code, str(tmp_path), *words])
        assert shown(done) == [f"{tmp_path / 'program.py'} {words[1]} None None"]


PICKLED = """
from mpi4py import MPI
import copy, pickle, sys
for comm in (MPI.COMM_WORLD, MPI.COMM_SELF, MPI.COMM_NULL):
    assert pickle.loads(pickle.dumps(comm)) is copy.copy(comm) is copy.deepcopy(comm) is comm
bare = MPI.Intracomm(MPI.COMM_WORLD)
assert pickle.loads(pickle.dumps(bare)) == MPI.COMM_WORLD
got = bare.bcast({"comm": MPI.COMM_WORLD} if bare.rank == 1 else None, root=1)["comm"]
assert got is MPI.COMM_WORLD
assert got.allreduce(1) == 2
sys.stdout.write("pickled\\n")
"""


def test_the_world_is_pickled_as_mpi4py_does(tmp_path: Path) -> None:
    assert shown(run(2, program(tmp_path, PICKLED))) == ["pickled"] * 2


@pytest.mark.parametrize("way", ["file", "-m", "-c"])
def test_a_traceback_begins_in_the_program(tmp_path: Path, way: str) -> None:
    text = "def f():\n    return 1 / 0\nf()\n"
    path = program(tmp_path, text)
    words = {"file": [path], "-m": ["-m", "program"], "-c": ["-c", text]}[way]
    done = run(1, *words, env={"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"})
    assert done.returncode == 1
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("File ")]
    name = "<string>" if way == "-c" else path
    assert lines == [f'File "{name}", line 3, in <module>', f'File "{name}", line 2, in f'], done.stderr


def test_a_syntax_error_is_shown_as_python_shows_it(tmp_path: Path) -> None:
    done = run(1, program(tmp_path, "x = = 1\n"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "SyntaxError" in done.stderr


def test_a_module_and_code_run_too(tmp_path: Path) -> None:
    text = "import sys\nfrom mpi4py import MPI\nprint(__name__, sys.argv[1:], type(MPI.COMM_WORLD).__name__)\n"
    (tmp_path / "tool.py").write_text(text)
    done = run(1, "-m", "tool", "-m", "x", env={"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"})
    assert shown(done) == ["__main__ ['-m', 'x'] Comm"]
    done = run(1, "-c", "import sys; print(__name__, sys.argv)", "y", "--trace")
    assert shown(done) == ["__main__ ['-c', 'y', '--trace']"]


RAISES = """
from mpi4py import MPI
def fails_on_one_rank():
    if MPI.COMM_WORLD.rank == 1:
        {action}
    MPI.COMM_WORLD.Barrier()
fails_on_one_rank()
"""


def test_an_exception_on_one_rank_ends_the_job_with_its_traceback(tmp_path: Path) -> None:
    done = run(3, program(tmp_path, RAISES.format(action="raise KeyError('lost')")))
    assert done.returncode != 0
    assert "fails_on_one_rank" in done.stderr
    assert "KeyError: 'lost'" in done.stderr


def test_an_error_of_topocomm_in_the_program_keeps_its_traceback(tmp_path: Path) -> None:
    action = "import topocomm.errors; raise topocomm.errors.AlgorithmError('from the program')"
    done = run(2, program(tmp_path, RAISES.format(action=action)))
    assert done.returncode != 0
    assert "AlgorithmError: from the program" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("name", ["MACHINE", "TUNING"])
def test_a_bad_file_in_the_environment_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    """No traceback, no rank that waits; whoever initialises MPI, and whatever the program catches."""
    bad = tmp_path / "bad.json"
    if name == "TUNING":
        bad.write_text('{"format": ')
    text = """
import mpi4py
mpi4py.rc(initialize=False)
from mpi4py import MPI
try:
    MPI.Init()
except Exception:
    print("caught")
"""
    text = text if name == "TUNING" else "from mpi4py import MPI\nprint(MPI.COMM_WORLD.rank)\n"
    done = run(4, program(tmp_path, text), env={f"TOPOCOMM_{name}": str(bad)})
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    ours = [line for line in done.stderr.splitlines() if "topocomm" in line]
    assert len(ours) == 1, done.stderr
    assert ours[0].startswith(f"python -m topocomm run: error: {bad}: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("code", [0, 5])
def test_the_exit_code_is_that_of_the_program(tmp_path: Path, code: int) -> None:
    done = run(1, program(tmp_path, f"import sys\nfrom mpi4py import MPI\nsys.exit({code})\n"))
    assert done.returncode == code


def test_an_exit_on_one_rank_ends_the_job(tmp_path: Path) -> None:
    done = run(3, program(tmp_path, RAISES.format(action="raise SystemExit(5)")))
    assert done.returncode == 5


def test_a_message_in_system_exit_is_printed_and_fails(tmp_path: Path) -> None:
    done = run(1, program(tmp_path, "from mpi4py import MPI\nraise SystemExit('enough')\n"))
    assert done.returncode == 1
    assert "enough" in done.stderr


def test_an_interrupt_ends_the_job(tmp_path: Path) -> None:
    done = run(2, program(tmp_path, RAISES.format(action="raise KeyboardInterrupt")))
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr


def test_a_program_that_does_not_use_mpi_does_not_start_it(tmp_path: Path) -> None:
    text = "import sys\nprint('mpi4py.MPI' in sys.modules)\n"
    assert shown(run(1, program(tmp_path, text))) == ["False"]


def test_a_program_that_initialises_mpi_itself_is_wrapped_then(tmp_path: Path) -> None:
    text = """
import sys
import mpi4py
mpi4py.rc(initialize=False, finalize=False)
from mpi4py import MPI
before = type(MPI.COMM_WORLD).__name__
MPI.Init_thread(MPI.THREAD_MULTIPLE)
sys.stdout.write(f"{before} {type(MPI.COMM_WORLD).__name__} {MPI.COMM_WORLD.allreduce(1)}\\n")
MPI.Finalize()
"""
    assert shown(run(2, program(tmp_path, text))) == ["Intracomm Comm 2"] * 2


def test_trace_is_switched_on(tmp_path: Path) -> None:
    text = "import os\nprint(os.environ.get('TOPOCOMM_TRACE'))\n"
    assert shown(run(1, "--trace", program(tmp_path, text))) == ["1"]
    assert shown(run(1, program(tmp_path, text), env={"TOPOCOMM_TRACE": ""})) == [""]


def test_starting_loads_no_schedules_models_and_other_commands(tmp_path: Path) -> None:
    text = """
from mpi4py import MPI
import sys
MPI.COMM_WORLD.Barrier()
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("topocomm.")}
print(*sorted({"algorithms", "schedule", "model", "plan", "rma"} & rooms))
print(*sorted(name for name in sys.modules if name.startswith("topocomm.cli.") and name.count(".") == 2))
"""
    done = run(1, program(tmp_path, text))
    assert done.stdout.splitlines() == ["", "topocomm.cli.console topocomm.cli.run"], done.stderr
