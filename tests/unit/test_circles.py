"""No files of the package import each other in a circle: lazy imports and those for type checkers count, too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import topocomm

ROOT = Path(topocomm.__path__[0])


def modules(root: Path) -> dict[str, Path]:
    """The modules under a package's folder, by their full names."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, package: str) -> Iterator[str]:
    """The names that a file imports, anywhere in it: of modules, or of what is in them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def graph(root: Path) -> dict[str, set[str]]:
    """For each module, the modules of the package that it imports."""
    files = modules(root)
    edges: dict[str, set[str]] = {}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found = {x if x in files else x.rpartition(".")[0] for x in imports(path, package)}
        edges[name] = (found & set(files)) - {name}
    return edges


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """The sets of two or more modules that all reach each other."""
    reach = {name: set(others) for name, others in edges.items()}
    for middle in edges:
        for others in reach.values():
            if middle in others:
                others.update(reach[middle])
    within = {name: frozenset(other for other in reach[name] if name in reach[other]) for name in edges}
    return [set(circle) for circle in sorted(set(within.values()), key=sorted) if circle]


def test_no_files_import_each_other_in_a_circle():
    edges = graph(ROOT)
    assert len(edges) > 100
    assert sum(map(len, edges.values())) > 300, "the imports are found"
    assert circles(edges) == []


def test_a_circle_is_found(tmp_path):
    package = tmp_path / "pack"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from pack.top import x\n")
    (package / "top.py").write_text("from pack import low\n")
    (package / "low.py").write_text("def f():\n    from .inner.deep import g\n")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "deep.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pack.top\n"
    )
    assert circles(graph(package)) == [{"pack.top", "pack.low", "pack.inner.deep"}]
    (package / "inner" / "deep.py").write_text("")
    assert circles(graph(package)) == []
