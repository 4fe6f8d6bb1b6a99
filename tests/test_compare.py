"""The comparison runner: its plan, what it measures on one node and on racks, and that it goes on where it stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from launch import environment

from bench.cluster import why_not
from bench.compare.bounds import bound_us, uplink_bytes
from topocomm.cli import main
from topocomm.cli.report.document import read

ROOT = Path(__file__).parents[1]
REASON = why_not()
SMALL = ["--collectives", "allreduce,allgather", "--sizes", "64,4K", "--variants", "auto", "--samples", "3"]


def compare(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.compare", "--settings", "default", *SMALL, "--out", str(out), *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def about(order: list[int], uplink: str = "8mbit") -> dict[str, object]:
    return {"order": order, "hosts": 2, "links": ["8mbit"], "uplink": uplink}


@pytest.mark.parametrize(
    ("name", "order", "microseconds", "over"),
    [
        ("allgather", [0, 1, 2, 3], 750, 1000),  # a host must receive 3/4 of the vector at 1 byte/µs
        ("allreduce", [0, 1, 2, 3], 1500, 2000),
        ("bcast", [0, 1, 2, 3], 1000, 1000),
        ("alltoall", [0, 1, 2, 3], 1000, 2000),  # a rack sends 2 × 2/4 of a vector
        ("allgather", [0, 1, 2], 667, 1000),  # two racks, of two ranks and of one
        ("allreduce", [0, 0, 1, 1], 1000, 0),  # one rack: two hosts exchange, nothing goes over uplinks
        ("reduce", [0, 0], 0, 0),
    ],
)
def test_bounds(name: str, order: list[int], microseconds: float, over: int) -> None:
    assert bound_us(name, 1000, about(order)) == pytest.approx(microseconds, abs=1)
    assert uplink_bytes(name, 1000, about(order)) == over


def test_the_slower_links_decide() -> None:
    assert bound_us("bcast", 1000, about([0, 2], uplink="2mbit")) == 4000


def test_plan_says_how_long_it_takes_and_starts_nothing(tmp_path: Path) -> None:
    done = compare(tmp_path / "c.json", "--plan", "--placements", "block,cyclic")
    assert done.stdout.startswith("4 of 4 units to measure, about ")
    assert done.stdout.count("cyclic") == 2
    assert not (tmp_path / "c.json").exists()


def test_on_one_node_and_going_on(tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    first = compare(out, "--node", "2", "--collectives", "allreduce")
    assert "1 of 1 units" in first.stdout
    second = compare(out, "--node", "2", "--report", str(tmp_path / "c.html"))
    assert "1 of 2 units" in second.stdout
    assert main(["report", str(out), "--check"]) == 0
    (part,) = read([out])
    assert [(row.collective, row.size) for row in part.rows] == [
        ("allreduce", 64), ("allreduce", 4096), ("allgather", 64), ("allgather", 4096),
    ]  # fmt: skip
    assert all(len(variant.samples_us) == 3 for row in part.rows for variant in row.variants.values())
    assert part.thread_level == "MULTIPLE"
    assert read([tmp_path / "c.html"]) == [part]


@pytest.mark.skipif(REASON is not None, reason=f"no cluster can be emulated here: {REASON}")
def test_on_racks(tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    words = ["--racks", "2", "--hosts", "2", "--placements", "cyclic", "--collectives", "allgather", "--sizes", "64K"]
    compare(out, *words)
    (part,) = read([out])
    (row,) = part.rows
    assert row.bound_us == pytest.approx(8 * 65536 * 0.75 / 40)
    crossed = row.variants["auto"].uplink_bytes
    assert crossed is not None
    # 32 KiB must leave each rack; headers come on top. The bound is that 48 KiB enter each host, over a link as fast as
    # an uplink: so the choice may send half as much again over uplinks at no cost, but never all blocks twice.
    assert 65536 <= crossed < 2 * 65536
    assert row.variants["auto"].algorithm != "native"
