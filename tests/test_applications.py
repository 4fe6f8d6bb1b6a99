"""Examples that are programs of their own: they check their answers, and fail if those are wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from launch import launch

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, ranks: int, *words: str) -> str:
    done = launch(ranks, [str(EXAMPLES / name), *words], timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_graph(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    picture = tmp_path / "graph.png"
    said = run("graph", 3, "--time", "5", "--plot", str(picture))
    assert re.search(r"as a direct solve within \de-1\d; 9\d\.\d% of the digits read correctly", said), said
    assert said.count("µs an exchange") == 3
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_inference(tmp_path: Path, tensor: int) -> None:
    picture = tmp_path / "latency.png"
    said = run("inference", 4, "--tensor", str(tensor), "--tokens", "4", "--plot", str(picture))
    assert said.startswith("4 tokens as one process writes them: ")
    assert len(set(said.splitlines()[0].split()[-4:])) > 1  # a model that always says one word proves little
    assert picture.read_bytes().startswith(b"\x89PNG")
