"""docs/tutorial.md: its files are made and its commands run in order; they print what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from launch import launch

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands() -> list[tuple[dict[str, str], int, list[str], list[str]]]:
    """Return of every command: variables, ranks, arguments of Python, lines shown."""
    found = []
    for block in blocks("console"):
        command, *shown = block.splitlines()
        words = shlex.split(command.removeprefix("$ "))
        variables: dict[str, str] = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        ranks = 1
        if words[0] == "mpiexec":
            ranks, words = int(words[2]), words[3:]
        assert words[0] == "python"
        found.append((variables, ranks, words[1:], shown))
    return found


def matches(shown: str, line: str) -> bool:
    """Compare a line with one of the page, in which … stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), line) is not None


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = dict(zip(("mean.py", "near.py"), blocks("python"), strict=True))
    texts |= dict(zip(("room.json", "links.json"), blocks("json"), strict=True))
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    tried = commands()
    assert len(tried) == 11
    for variables, ranks, words, shown in tried:
        done = launch(ranks, words, env=variables, timeout=120)
        assert done.returncode == 0, (words, done.stderr)
        lines = [line.rstrip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        assert len(lines) == len(shown), (words, lines)
        assert [line for line in shown if not any(matches(line, other) for other in lines)] == [], (words, lines)


def test_a_line_that_differs_is_seen() -> None:
    assert matches("1.5 … us", "1.5 and 7 us")
    assert not matches("1.5 … us", "1.4 and 7 us")
    assert not matches("a+b", "aab")
