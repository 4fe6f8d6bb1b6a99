"""``python -m topocomm order``: host files that launchers take."""

import json
from collections import Counter

import pytest

from topocomm.cli import main

PLACES = {f"n{k}": [f"g{k % 2}"] for k in range(4)}


@pytest.fixture
def placement(tmp_path):
    path = tmp_path / "place.json"
    path.write_text(json.dumps({"format": "topocomm-placement", "version": 1, "levels": ["group"], "nodes": PLACES}))
    return str(path)


@pytest.mark.parametrize("form", ["slurm", "seq", "mpich", "rankfile"])
def test_every_format_lists_every_slot_once(placement, capsys, form):
    command = ["order", "4", "4", "--placement", placement, "--hosts", "n[0-3]:4", "--format", form]
    assert main(command) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 16
    if form == "rankfile":
        assert [line.split("=")[0] for line in lines] == [f"rank {k}" for k in range(16)]
        assert Counter(line.split("=", 1)[1] for line in lines) == Counter(
            f"n{k} slot={slot}" for k in range(4) for slot in range(4)
        )
        hosts = [line.split("=")[1].split()[0] for line in lines]
    else:
        hosts = [line.removesuffix(":1") if form == "mpich" else line for line in lines]
    assert Counter(hosts) == Counter({f"n{k}": 4 for k in range(4)})
    grid = [hosts[4 * k : 4 * k + 4] for k in range(4)]
    apart = sum(grid[x][y] != grid[x + 1][y] for x in range(3) for y in range(4))
    apart += sum(grid[x][y] != grid[x][y + 1] for x in range(4) for y in range(3))
    assert apart == 8
    assert err.splitlines() == [
        "neighbours in different places at level group: 12 in the hosts' order, 4 now",
        "neighbours in different places at level node: 12 in the hosts' order, 8 now",
    ]


def test_a_file_is_written(placement, tmp_path, capsys):
    out = tmp_path / "hosts"
    assert main(["order", "4", "--periodic", "0", "--placement", placement, "--hosts", "n[0-3]", "-o", str(out)]) == 0
    assert sorted(out.read_text().split()) == ["n0", "n1", "n2", "n3"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["3", "--hosts", "n[0-3]"], "a grid of 3 has 3 ranks, the hosts have 4"),
        (["4", "--hosts", "n[0-3]", "--periodic", "1"], "--periodic 1: the grid has axes 0 to 0"),
        (["2", "--hosts", "n[8-9]"], "does not place node 'n8'"),
    ],
)
def test_what_does_not_fit_is_refused(placement, capsys, words, reason):
    assert main(["order", *words, "--placement", placement]) == 2
    assert reason in capsys.readouterr().err
