"""The C core alone: its test programs under the address, undefined-behaviour and thread sanitizers."""

import shutil
import sys
from pathlib import Path

import pytest
from launching import ROOT, run

TESTS = {"orders": (), "rearm": ("1000",), "transfers": ("8",), "errors": (), "leaks": ("10000",), "processes": ()}

sys.path.insert(0, str(ROOT / "csrc"))
import build_cffi  # noqa: E402

FABRIC = build_cffi.libfabric_flags() is not None
SANITIZERS = ("address,undefined", "thread")
COMPILER = shutil.which("clang") or shutil.which("gcc")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory):
    """Compiles the core once per sanitizer."""
    made: dict[str, list[str]] = {}

    def compile_core(sanitizer: str) -> list[str]:
        if sanitizer not in made:
            folder = tmp_path_factory.mktemp(sanitizer.replace(",", "-"))
            # libfabric hides its locks from the thread sanitizer
            sources = [ROOT / "csrc" / name for name in build_cffi.sources(FABRIC and sanitizer != "thread")]
            for source in sources:
                code, output = run(
                    [str(COMPILER), "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-fsanitize={sanitizer}",
                     "-c", str(source), "-o", str(folder / f"{source.stem}.o")]
                )  # fmt: skip
                assert code == 0, output
            made[sanitizer] = [str(folder / f"{source.stem}.o") for source in sources]
        return made[sanitizer]

    return compile_core


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("name", TESTS)
def test_program(name: str, sanitizer: str, objects, tmp_path: Path) -> None:
    if name == "orders" and sanitizer == "thread":
        pytest.skip("orders has one thread")
    build_and_run(name, sanitizer, objects, tmp_path, TESTS[name])


@pytest.mark.skipif(COMPILER is None or not FABRIC, reason="needs a C compiler and libfabric's headers")
@pytest.mark.parametrize(("provider", "nics"), [("tcp", "lo"), ("tcp", "lo,lo")])
def test_transfers_over_libfabric(provider: str, nics: str, objects, tmp_path: Path) -> None:
    build_and_run("transfers", "address,undefined", objects, tmp_path, ("2", provider, nics))


def build_and_run(name: str, sanitizer: str, objects, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    program = tmp_path / name
    code, output = run(
        [str(COMPILER), "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-fsanitize={sanitizer}",
         f"-I{ROOT / 'csrc'}", str(ROOT / "tests" / "c" / f"test_{name}.c"), *objects(sanitizer), "-o", str(program),
         "-pthread", "-ldl"]
    )  # fmt: skip
    assert code == 0, output
    leaks = ROOT / "tests" / "c" / "leaks.txt"
    env = {"TSAN_OPTIONS": "halt_on_error=1", "LSAN_OPTIONS": f"suppressions={leaks}:print_suppressions=0"}
    code, output = run([str(program), *arguments], limit=120, env=env)
    assert code == 0, output


def test_functions_are_short_and_know_no_mpi() -> None:
    for path in sorted((ROOT / "csrc").glob("*.[ch]")):
        lines = path.read_text().splitlines()
        assert not any("mpi.h" in line for line in lines), path
        start = 0
        for number, line in enumerate(lines, 1):
            if line.endswith(") {") and not line.startswith((" ", "}")):
                start = number
            if line == "}" and start:
                assert number - start < 60, f"{path}:{start}: {number - start} lines"
                start = 0
