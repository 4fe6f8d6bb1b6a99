"""The PowerLLEL mini-app: its physics and its ways to communicate, and its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launch import launch

ROOT = Path(__file__).parents[1]
APP = ROOT / "examples" / "powerllel"


def test_physics_and_ways() -> None:
    done = launch(4, [str(ROOT / "tests" / "examples" / "powerllel_checks.py")], timeout=180)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "8 ways: same bits" in said
    assert "a swapped face" in said
    assert "start and stop" in said
    assert "exact for two blocks in z" in said
    assert said.count("Taylor-Green") == 2


def test_command_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    small = tmp_path / "small.toml"
    small.write_text((APP / "channel.toml").read_text().replace("[32, 32, 32]", "[16, 8, 8]"))
    out, kept = tmp_path / "r.json", tmp_path / "kept.npz"
    words = [str(APP), str(small), "--rows", "2", "--save", str(kept), "--json", str(out)]
    done = launch(2, [*words, "--comm", "pipelined", "--steps", "2", "--plot", str(tmp_path / "flow.png")])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")
    straight = json.loads(out.read_text())
    for name in ("Main loop", "Poisson solver", "Transpose x to y", "Solve trid", "Update boundary vel", "uvw1"):
        assert straight["seconds"][name] > 0, name
    for steps in (["--steps", "1"], ["--steps", "1", "--restart", str(kept)]):
        assert launch(2, [*words, "--comm", "notified", *steps]).returncode == 0
    stopped = json.loads(out.read_text())
    assert (stopped["bits"], stopped["steps"]) == (straight["bits"], 2)
