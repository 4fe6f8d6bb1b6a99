"""Kept results carry a command line that can be typed again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.record import ROOT


@pytest.mark.parametrize("typed", [["-m", "made"], ["-m", "made.one"], ["made/one.py"]])
def test_command_is_the_one_that_was_typed(tmp_path: Path, typed: list[str]) -> None:
    package = tmp_path / "made"
    package.mkdir()
    for name in ("__init__", "__main__", "one"):
        program = "" if name == "__init__" else "from bench.record import command\nprint(command())\n"
        (package / f"{name}.py").write_text(program, encoding="utf-8")
    words = [*typed, "--sizes", "4K 8K"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"python {' '.join(typed)} --sizes '4K 8K'"
