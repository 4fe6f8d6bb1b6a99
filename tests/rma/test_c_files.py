"""Which C file uses which, read from the symbol tables of their objects."""

import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from launching import ROOT, run

sys.path.insert(0, str(ROOT / "csrc" / "python"))
import build_cffi

COMPILER = shutil.which("gcc") or shutil.which("clang")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a compiler")
CSRC = build_cffi.CSRC
Uses = Mapping[str, Mapping[str, set[str]]]  # file → file → names used

CELLAR = "int cellar(void) { return 1; }\n"
SIDE = "int cellar(void);\nint side(void) { return cellar(); }\n"
CIRCLE = "int side(void);\nint cellar(void) { return side(); }\n"


def symbols(source: Path, target: Path) -> tuple[set[str], set[str]]:
    """Return the global names that a C file defines, and those that it uses."""
    flags = [f"-I{CSRC / 'core'}", f"-I{CSRC / 'coll'}", *(build_cffi.libfabric_flags() or [])]
    code, output = run([str(COMPILER), "-std=gnu11", "-O0", *flags, "-c", str(source), "-o", str(target)])
    assert code == 0, output
    code, output = run(["nm", "-g", "-P", str(target)])
    assert code == 0, output
    entries = [line.split()[:2] for line in output.splitlines()]
    return {name for name, kind in entries if kind != "U"}, {name for name, kind in entries if kind == "U"}


def uses(sources: Iterable[Path], folder: Path) -> Uses:
    """Return which names each file uses of each other one."""
    found = {str(path): symbols(path, folder / f"{n}.o") for n, path in enumerate(sources)}
    owner = {name: file for file, (defined, _) in found.items() for name in defined}
    graph: dict[str, dict[str, set[str]]] = {file: {} for file in found}
    for file, (_, used) in found.items():
        for name in used & owner.keys():
            graph[file].setdefault(owner[name], set()).add(name)
    return graph


def within_reach(graph: Uses, start: str) -> set[str]:
    """Return the files that ``start`` uses, directly or through others."""
    seen: set[str] = set()
    stack = list(graph[start])
    while stack:
        file = stack.pop()
        if file not in seen:
            seen.add(file)
            stack.extend(graph[file])
    return seen


def circles(graph: Uses) -> dict[str, dict[str, set[str]]]:
    """Return the uses that lie on a circle: file → file → names."""
    reach = {file: within_reach(graph, file) for file in graph}
    on = {file: {to: names for to, names in graph[file].items() if file in reach[to]} for file in graph}
    return {file: found for file, found in on.items() if found}


def intrusions(graph: Uses) -> set[str]:
    """Return the names of csrc/core that files outside it use although no public header declares them."""
    core = str(CSRC / "core")
    outside = [to for file, to in graph.items() if not file.startswith(core)]
    return {n for to in outside for file, names in to.items() if file.startswith(core) for n in names if n[:3] != "tc_"}


def foreign_headers(sources: Iterable[Path]) -> set[str]:
    """Return the core's own headers that files outside it include."""
    private = {path.name for path in (CSRC / "core").rglob("*.h")} - {"topocomm.h"}
    outside = [path for path in sources if not path.is_relative_to(CSRC / "core")]
    named = {name for path in outside for name in re.findall(r'#include\s+"([^"]+)"', path.read_text())}
    return {name for name in named if Path(name).name in private}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Uses:
    return uses(build_cffi.sources(build_cffi.libfabric_flags() is not None), tmp_path_factory.mktemp("objects"))


def test_no_file_uses_one_that_uses_it(graph: Uses) -> None:
    assert circles(graph) == {}


def test_transports_are_known_by_their_interface(graph: Uses) -> None:
    folder = str(CSRC / "core" / "transport")
    outside = [to for file, to in graph.items() if not file.startswith(folder)]
    names = {name for to in outside for file, used in to.items() if file.startswith(folder) for name in used}
    assert {name for name in names if not name.endswith("_open_transport")} == set()
    assert "shm_open_transport" in names


def test_files_outside_the_core_know_its_public_header_only(graph: Uses) -> None:
    assert intrusions(graph) == set()
    assert foreign_headers(CSRC.rglob("*.[ch]")) == set()


def test_circles_and_intrusions_are_seen(tmp_path: Path) -> None:
    below, side, outsider = tmp_path / "below.c", tmp_path / "side.c", tmp_path / "outsider.c"
    below.write_text(CELLAR)
    side.write_text(SIDE)
    assert circles(uses([below, side], tmp_path)) == {}
    below.write_text(CIRCLE)
    assert circles(uses([below, side], tmp_path)) == {
        str(below): {str(side): {"side"}},
        str(side): {str(below): {"cellar"}},
    }
    outsider.write_text('#include "internal.h"\ndouble look(void) { tc_status_text(0); return now(); }\n')
    sources = build_cffi.sources(libfabric=False)
    assert intrusions(uses([*sources, outsider], tmp_path)) == {"now"}
    assert foreign_headers([outsider]) == {"internal.h"}
