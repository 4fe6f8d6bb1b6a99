"""The C core alone: its test programs under the address, undefined-behaviour and thread sanitizers."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from launching import ROOT, run

from topocomm.rma import _core

sys.path.insert(0, str(ROOT / "csrc" / "python"))
import build_cffi

TESTS = {
    "orders": (),
    "rearm": ("1000",),
    "transfers": ("8",),
    "errors": (),
    "epochs": (),
    "faults": (),
    "leaks": ("10000",),
    "processes": (),
    "checked": (),
    "node": (),
    "large": (),
    "many_nodes": (),
    "requests": ("1000",),
}
ONE_THREAD = ("orders", "many_nodes")
NETWORK = {  # over libfabric: test and sanitizer, arguments
    "transfers": ("address,undefined", ("2", "tcp", "lo")),
    "transfers two rails": ("address,undefined", ("2", "tcp", "lo,lo")),
    "transfers progress thread": ("thread", ("2", "tcp", "lo,lo", "thread")),
    "network": ("address,undefined", ("tcp", "lo")),
    "refused": ("address,undefined", ("tcp", "lo")),
    "live": ("address,undefined", ("tcp", "lo")),
    "checked": ("address,undefined", ("tcp", "lo")),
    "leaks": ("address,undefined", ("10000", "tcp", "lo")),
}
SANITIZERS = ("address,undefined", "thread")
COMPILER = shutil.which("clang") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a compiler")
CSRC = build_cffi.CSRC
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{CSRC / 'core'}", f"-I{CSRC / 'coll'}"]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory):
    """Compiles the core once per sanitizer."""
    made: dict[str, list[str]] = {}
    libfabric = build_cffi.libfabric_flags()

    def compile_core(sanitizer: str) -> list[str]:
        if sanitizer not in made:
            folder = tmp_path_factory.mktemp(sanitizer.replace(",", "-"))
            made[sanitizer] = []
            for source in build_cffi.sources(libfabric is not None):
                target = str(folder / f"{source.parent.name}-{source.stem}.o")
                command = [str(COMPILER), *FLAGS, *(libfabric or []), f"-fsanitize={sanitizer}", "-c", str(source)]
                command += ["-DCROSSING=50", "-DSTREAM=50000u", "-DSTAGE=131072u"]  # long ways in short calls
                code, output = run([*command, "-o", target])
                assert code == 0, output
                made[sanitizer].append(target)
        return made[sanitizer]

    return compile_core


@needs_compiler
@pytest.mark.parametrize(
    ("name", "sanitizer"), [(n, s) for n in TESTS for s in SANITIZERS if n not in ONE_THREAD or s != "thread"]
)
def test_program(name: str, sanitizer: str, objects, tmp_path: Path) -> None:
    build_and_run(name, sanitizer, objects, tmp_path, TESTS[name])


@needs_compiler
@pytest.mark.skipif(build_cffi.libfabric_flags() is None, reason="needs libfabric and its headers")
@pytest.mark.parametrize("name", NETWORK)
def test_program_over_libfabric(name: str, objects, tmp_path: Path) -> None:
    sanitizer, arguments = NETWORK[name]
    build_and_run(name.partition(" ")[0], sanitizer, objects, tmp_path, arguments)


def build_and_run(name: str, sanitizer: str, objects, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    program = tmp_path / name
    source = str(ROOT / "tests" / "c" / f"test_{name}.c")
    command = [str(COMPILER), *FLAGS, f"-fsanitize={sanitizer}", source, *objects(sanitizer)]
    code, output = run([*command, "-o", str(program), "-pthread", "-ldl"])
    assert code == 0, output
    leaks = ROOT / "tests" / "c" / "leaks.txt"
    env = {"TSAN_OPTIONS": "halt_on_error=1", "LSAN_OPTIONS": f"suppressions={leaks}:print_suppressions=0"}
    code, output = run([str(program), *arguments], limit=120, env=env)
    assert code == 0, output


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm, which comes with a compiler")
def test_extension_exports_no_other_name() -> None:
    """Export PyInit_* and, for callers in C, tc_*: any other name could be taken over by another library."""
    code, output = run(["nm", "-D", "--defined-only", str(_core.__file__)])
    assert code == 0, output
    names = {line.split()[-1] for line in output.splitlines()}
    assert "PyInit__core" in names
    assert sorted(name for name in names if not re.match(r"(tc_|PyInit_)", name)) == []


def test_functions_are_short_and_know_no_mpi() -> None:
    for path in sorted(CSRC.rglob("*.[ch]")):
        lines = path.read_text().splitlines()
        assert not any("mpi.h" in line for line in lines if line.lstrip().startswith("#")), path
        start = 0
        for number, line in enumerate(lines, 1):
            if line.endswith(") {") and not line.startswith((" ", "}")):
                start = number
            if line == "}" and start:
                assert number - start < 60, f"{path}:{start}: {number - start} lines"
                start = 0
