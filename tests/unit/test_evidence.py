"""The page on evidence names every kept result, and nothing else."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in (ROOT / "docs" / "evidence" / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
]


def test_every_result_is_described_once() -> None:
    names = [path.name for path in (ROOT / "bench" / "results").glob("*.json")]
    patterns = [row[0].strip("`") for row in ROWS]
    assert {name: sum(fnmatch(name, pattern) for pattern in patterns) for name in names} == dict.fromkeys(names, 1)
    assert [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)] == []


def test_every_command_is_there() -> None:
    modules = [found for row in ROWS for found in re.findall(r"`(bench[\w.]*)", row[1])]
    assert len(modules) >= len(ROWS) - 1
    assert [name for name in modules if find_spec(name) is None] == []
