"""Arguments: what is understood, and that what is not costs one line and exit code 2."""

from __future__ import annotations

import subprocess
import sys

import pytest
from launch import environment

from topocomm.cli import COMMANDS
from topocomm.cli.bench.flags import BenchOptions, add_arguments, options_of
from topocomm.cli.console import Parser


def options(*words: str) -> BenchOptions:
    parser = Parser(prog="bench", description="")
    add_arguments(parser)
    return options_of(parser.parse_args(words))


def topocomm(*words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    program = ["-c", code] if code else ["-m", "topocomm"]
    launcher = ("PMI", "OMPI_COMM", "PALS")
    outside = {name: value for name, value in environment().items() if not name.startswith(launcher)}
    return subprocess.run(
        [sys.executable, *program, *words], capture_output=True, text=True, timeout=60, env=outside, check=False
    )


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("128", 1, 128),
        ("2:128", 2, 128),
        ("2:", 2, 1 << 20),
        (":64", 1, 64),
        ("4:4M", 4, 4 << 20),
        ("1k:2K", 1024, 2048),
    ],
)
def test_message_sizes(text: str, least: int, most: int) -> None:
    found = options("allreduce", "-m", text)
    assert (found.least, found.most) == (least, most)


def test_osu_flags_may_be_joined() -> None:
    found = options("reduce", "-fcl", "-z50,99", "-i7", "-x", "0", "-k", "fixed:3", "-T", "mpi_char", "-T", "MPI_FLOAT")
    assert found.full
    assert found.validation
    assert found.in_place
    assert found.percentiles == (50, 99)
    assert found.loops(1 << 20) == (7, 0)
    assert found.root == 3
    assert [datatype.name for datatype in found.datatypes] == ["MPI_SIGNED_CHAR", "MPI_FLOAT"]


def test_defaults() -> None:
    found = options("allgather")
    assert (found.least, found.most, found.memory) == (1, 1 << 20, 512 << 20)
    assert found.algorithms == ("auto", "native")
    assert options("bw").most == 4 << 20
    assert options("bw").window == 64
    assert options("bw", "-z").percentiles == (50, 90, 99)
    every = [datatype.name for datatype in options("bcast", "-T", "all").datatypes]
    assert every == ["MPI_CHAR", "MPI_INT", "MPI_FLOAT"]


def test_options_of_an_algorithm_stay_with_it() -> None:
    found = options("alltoall", "--algorithm", "bruck:radix=4,local,native,pairwise")
    assert found.algorithms == ("bruck:radix=4,local", "native", "pairwise")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "required: BENCHMARK"),
        (("allredcue",), "'allredcue'"),
        (("allreduce", "-m", "0:8"), "at least 1 byte"),
        (("allreduce", "-m", "x"), "'x' is not a number of bytes"),
        (("allreduce", "-m", "64:8"), "smallest message is larger"),
        (("allreduce", "-i", "0"), "'0' is not a whole number of at least 1"),
        (("allreduce", "-T", "mpi_complex"), "no data type 'mpi_complex'"),
        (("allreduce", "-z", "101"), "percentiles of 0 to 100"),
        (("allreduce", "-W", "4"), "allreduce has no -W; it has -m"),
        (("bcast", "-l"), "bcast has no -l"),
        (("barrier", "-c"), "barrier has no -c"),
        (("latency", "-f"), "latency has no -f"),
        (("latency", "--algorithm", "ring"), "no algorithm does"),
        (("reduce", "-k", "2"), "neither rotate nor fixed:RANK"),
        (("reduce", "--json", "/no/such/place.json"), "there is no directory '/no/such'"),
        (("reduce", "--algorithm", "a,,b"), "not a list of names"),
        (("reduce", "--frobnicate"), "--frobnicate"),
    ],
)
def test_wrong_arguments_of_bench(words: tuple[str, ...], reason: str) -> None:
    refused(topocomm("bench", *words), reason)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("frobnicate",), "no command 'frobnicate'; there are "),
        (("run",), "no program"),
        (("run", "no_such_script.py"), "there is no file 'no_such_script.py'"),
        (("run", "-m"), "-m needs a value"),
        (("run", "--algorithm", "quickest", "-c", "pass"), "no collective has an algorithm 'quickest'"),
        (("run", "--algorithm", "allreduce=bruck", "-c", "pass"), "unknown allreduce algorithm 'bruck'"),
        (("run", "--topology", "no_such.json", "-c", "pass"), "no_such.json"),
        (("plot", "no_such.json", "-o", "x.png"), "no_such.json: cannot be read"),
        (("plot", "x.json"), "required: -o"),
    ],
)
def test_wrong_arguments_elsewhere(words: tuple[str, ...], reason: str) -> None:
    refused(topocomm(*words), reason)


def refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("python -m topocomm")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_help_names_every_command_and_imports_no_mpi4py() -> None:
    code = "import sys; sys.modules['mpi4py'] = None; from topocomm.cli import main; sys.exit(main())"
    done = topocomm("--help", code=code)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert topocomm().returncode == 2


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    done = topocomm(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python -m topocomm {name}")


def test_version() -> None:
    assert topocomm("--version").stdout.startswith("topocomm ")
    assert topocomm("bench", "allreduce", "-v").stdout.startswith("# topocomm MPI Allreduce Latency Test v")


def test_info_without_mpi4py() -> None:
    code = """
import sys, importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.startswith("mpi4py") else find(name, package)
sys.modules["mpi4py"] = None
from topocomm.cli import main
sys.exit(main())
"""
    done = topocomm("info", code=code)
    assert done.returncode == 0, done.stderr
    assert "mpi4py is not installed" in done.stdout
