"""``python -m topocomm topology`` on every kind of description."""

import json

import pytest
from test_sites_formats import COORDINATES, HWLOC2, RANGES, SAMPLES, TREE

from topocomm.cli import main
from topocomm.topology import parse_placement, read_site
from topocomm.topology.sites import FORMATS


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


def test_an_unknown_format_is_refused_with_a_short_line_for_each_that_is_known(site, capsys):
    for command in (["topology"], ["explain", "bcast", "--bytes", "1M", "--placement"]):
        assert main([*command, site("hello")]) == 2
        head, *reasons = capsys.readouterr().err.splitlines()
        assert head.endswith("site: no known format; tried")
        assert [line.split()[0] for line in reasons] == list(FORMATS)
        assert max(map(len, reasons)) < 100


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("command", ["explain", "simulate"])
def test_what_can_be_read_can_be_explained(site, capsys, name, command):
    """Ranks where the file places ranks, else one on each of its nodes."""
    assert main([command, "allgather", "--bytes", "1K", "--placement", site(SAMPLES[name])]) == 0
    found = read_site(site(SAMPLES[name]))
    ranks = found.ranks or found.nodes
    assert f" {len(ranks)} ranks, " in capsys.readouterr().out


def test_a_job_on_a_machine_that_slurm_describes(site, capsys):
    job = ["explain", "bcast", "--bytes", "1M", "--placement", site(TREE), "--hosts", "tux4:2,tux0"]
    assert main(job) == 0
    placement = "# placement: 3 ranks, 2 switch2s of 1-2, 2 switches of 1-2, 2 nodes of 1-2, in topology order"
    assert placement in capsys.readouterr().out
    assert main([*job[:5], site(COORDINATES), *job[6:]]) == 2
    error = capsys.readouterr().err
    assert "--hosts fits by-node files only" in error
    assert error.count("\n") == 1


def test_verify_takes_what_places_ranks(site, capsys):
    assert (
        main(
            ["verify", "allgather", "--algorithm", "ring", "-p", "1", "--random", "0", "--topology", site(COORDINATES)]
        )
        == 0
    )
    assert main(["verify", "allgather", "--topology", site(TREE)]) == 2
    assert "places nodes, not ranks" in capsys.readouterr().err
