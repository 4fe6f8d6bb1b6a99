"""Recorded calls: what is read, what is refused, and what the table says."""

import json

import pytest

from topocomm.choose.trace import FORMAT, price, read_trace
from topocomm.cli import main
from topocomm.errors import Error

PLACES = {"levels": ["group", "node"], "ranks": [[f"g{i // 4}", f"n{i}"] for i in range(16)]}
GOOD = {
    "format": FORMAT,
    "version": 1,
    "topologies": [PLACES],
    "calls": [[0, "allreduce", 8, 0, True, "native", 3], [0, "bcast", 1 << 24, 5, True, "two_trees", 2]],
}


def write(folder, document):
    path = folder / "trace.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def test_calls_are_priced_and_the_dearest_comes_first(tmp_path):
    dear, cheap = price(read_trace(write(tmp_path, GOOD)))
    assert (dear.call.collective, dear.call.root, dear.call.count) == ("bcast", 5, 2)
    assert 0 < 2 * dear.bound <= 2 * dear.seconds <= 2 * dear.native
    once = {**GOOD, "calls": [[0, "allreduce", 8, 0, True, "native", 1]]}
    assert price(read_trace(write(tmp_path, once)))[0].seconds == pytest.approx(cheap.seconds / 3)


def test_the_table_and_the_document(tmp_path, capsys):
    path = write(tmp_path, GOOD)
    assert main(["explain", "--trace", path, path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# 10 calls, 4 kinds; machine: assumed"
    assert lines[3].split()[:4] == ["bcast", str(1 << 24), "16", "2"]
    assert "two_trees" in lines[3]
    assert main(["explain", "--trace", path, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["calls"]
    assert [row["served"] for row in rows] == ["two_trees", "native"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("no json", "no JSON"),
        ("[" * 100000, "no JSON"),
        ({**GOOD, "version": 2}, "no topocomm-trace of version 1"),
        ({**GOOD, "topologies": 3}, "malformed"),
        ({**GOOD, "topologies": [{"levels": ["a"], "ranks": []}]}, "malformed"),
        ({**GOOD, "calls": [[0, "allreduce", -8, 0, True, "native", 3]]}, "at least 0"),
        ({**GOOD, "calls": [[0, "allreduce", True, 0, True, "native", 3]]}, "whole numbers"),
        ({**GOOD, "calls": [[1, "allreduce", 8, 0, True, "native", 3]]}, "malformed"),
        ({**GOOD, "calls": [[0, "allreduce", 8, 16, True, "native", 3]]}, "16 ranks"),
        ({**GOOD, "calls": [[0, "nothing", 8, 0, True, "native", 3]]}, "no known form"),
        ({**GOOD, "calls": [[0, "bcast"]]}, "malformed"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(tmp_path, change, says):
    with pytest.raises(Error, match=says) as error:
        read_trace(write(tmp_path, change))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_trace_and_a_collective_are_two_things(tmp_path, capsys):
    assert main(["explain", "allreduce", "--trace", write(tmp_path, GOOD)]) != 0
    assert main(["explain", "allreduce"]) != 0
    err = capsys.readouterr().err
    assert "give --trace and --machine only" in err
    assert "needs COLLECTIVE, --bytes and --placement" in err
