"""``python -m topocomm topology`` on every kind of description."""

import json

import pytest
from test_sites_formats import COORDINATES, HWLOC2, RANGES, TREE

from topocomm.cli import main
from topocomm.topology import parse_placement


@pytest.fixture
def site(tmp_path):
    def write(text):
        path = tmp_path / "site"
        path.write_text(text)
        return str(path)

    return write


def test_describes(site, capsys):
    assert main(["topology", site(TREE)]) == 0
    assert capsys.readouterr().out == "6 nodes, 2 switch2s of 2-4, 3 switches of 2, 6 nodes of 1\n"


def test_by_rank_is_described(site, capsys):
    assert main(["topology", site(HWLOC2)]) == 0
    assert capsys.readouterr().out.startswith("4 ranks, 2 sockets of 2")


def test_converts_by_node(site, capsys):
    assert main(["topology", site(TREE), "-o", "-"]) == 0
    placement = parse_placement(capsys.readouterr().out)
    assert placement.nodes["tux4"] == ("other", "s2")


def test_converts_hosts_of_a_job(site, tmp_path, capsys):
    out = tmp_path / "job.json"
    words = ["topology", site(RANGES), "--host-format", "nid{:06d}", "--hosts", "nid[001000,002000-002001]"]
    assert main([*words, "-o", str(out)]) == 0
    assert json.loads(out.read_text())["ranks"] == [["A", "nid001000"], ["B", "nid002000"], ["B", "nid002001"]]
    assert main([*words, "--to", "mpich_coordinates", "-o", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["0: 0 0 -1", "1: 1 1 -1", "2: 1 2 -1"]


@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        ("hello", [], "no known format"),
        (TREE, ["--hosts", "tux[0-9]"], "does not place node 'tux6'"),
        (TREE, ["--hosts", "tux["], "never closed"),
        (TREE, ["--to", "mpich_coordinates", "-o", "-"], "say which with --hosts"),
        (COORDINATES, ["--hosts", "a"], "places ranks, not nodes"),
        (TREE, ["-o", "/nowhere/x"], "cannot be written"),
        (TREE, ["--pattern", "("], "not a regular expression"),
    ],
)
def test_refused_in_one_line(site, capsys, text, words, reason):
    assert main(["topology", site(text), *words]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
