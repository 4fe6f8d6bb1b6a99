"""Pictures: that they are drawn, of what, and what is refused. What they look like was looked at."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from topocomm.cli import main, plot

pytest.importorskip("matplotlib")

VALUE = {"min": 1.0, "max": 9.0, "percentiles": {}}


def document(**changes: Any) -> dict[str, Any]:
    def row(datatype: str, size: int) -> dict[str, Any]:
        results = {
            "auto": {"average": 5.0 + size / 100, **VALUE},
            "native": {"average": 4.0 + size / 50, **VALUE},
            "bruck": None if size < 64 else {"average": 6.0, **VALUE},
        }
        return {"datatype": datatype, "size": size, "iterations": 10, "verified": True, "results": results}

    return {
        "format": "topocomm-results",
        "version": 1,
        "benchmark": "allgather",
        "unit": "us",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "a processor", "cores": 2, "nodes": 1, "ranks": 8},
        "versions": {"mpi_library": "MPICH 5.0.2", "topocomm": "0.1.0"},
        "contenders": ["auto", "native", "bruck"],
        "rows": [row(datatype, 1 << k) for datatype in ("MPI_CHAR", "MPI_INT") for k in range(3, 12)],
        **changes,
    }


def kept(tmp_path: Path, content: object) -> str:
    path = tmp_path / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_pictures(tmp_path: Path, kind: str, magic: bytes) -> None:
    output = tmp_path / f"picture.{kind}"
    assert main(["plot", kept(tmp_path, document()), "-o", str(output)]) == 0
    assert output.read_bytes().startswith(magic)


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    output = tmp_path / "picture.svg"
    main(["plot", kept(tmp_path, document()), "-o", str(output)])
    text = output.read_text()
    for word in ("allgather: 8 ranks on 1 node, a processor", "MPICH 5.0.2", "auto", "bruck", "ratio to native"):
        assert f"<!-- {word}" in text or f" {word} -->" in text or word in text, word


def test_barrier_and_a_single_contender(tmp_path: Path) -> None:
    row = {"datatype": "MPI_CHAR", "size": 0, "iterations": 1, "verified": True}
    rows = [{**row, "results": {"auto": {"average": 5.0, **VALUE}, "native": {"average": 4.0, **VALUE}, "bruck": None}}]
    for changes in ({"benchmark": "barrier", "rows": rows}, {"contenders": ["native"]}):
        output = tmp_path / f"{len(changes)}.png"
        assert main(["plot", kept(tmp_path, document(**changes)), "-o", str(output)]) == 0
        assert output.stat().st_size > 5000


@pytest.mark.parametrize(
    ("content", "output", "reason"),
    [
        ("{", "x.png", "is not JSON"),
        ("[]", "x.png", "is not a result of bench --json"),
        ({"format": "topocomm-results", "version": 9}, "x.png", "has version 9"),
        ({"format": "topocomm-results", "version": 1}, "x.png", "lacks benchmark, contenders"),
        (document(rows=[]), "x.png", "holds no measured row"),
        (document(), "x.bmp", "must end in .png, .pdf, .svg"),
        (document(), "no/such/x.png", "there is no directory"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, output: str, reason: str
) -> None:
    assert main(["plot", kept(tmp_path, content), "-o", str(tmp_path / output)]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_a_missing_matplotlib_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(plot, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    assert main(["plot", kept(tmp_path, document()), "-o", str(tmp_path / "x.png")]) == 2
    assert "pip install topocomm[plot]" in capsys.readouterr().err
