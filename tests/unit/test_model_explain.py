"""`explain` and `simulate`: documents, tables, pictures and refusals."""

import json

import numpy as np
import pytest

from topocomm.algorithms import TABLE
from topocomm.choose.modelled import Chooser
from topocomm.choose.rule import decide
from topocomm.cli import main
from topocomm.model import machine
from topocomm.model.explain import candidates_of, explain, pair_loads
from topocomm.model.machine_files import dumps_machine
from topocomm.model.sweep import sweep
from topocomm.topology import Topology, dragonfly, dumps_placement, fat_tree, groups_of, reorder_ranks, two_level

KEYS = ["collective", "bytes", "ranks", "levels", "bound", "candidates", "chosen", "sources"]
CANDIDATE = [
    "algorithm",
    "rounds",
    "time_us",
    "bytes_between",
    "bytes_over_bound",
    "busiest_link_bytes",
    "busiest_over_bound",
    "time_over_bound",
]


@pytest.fixture
def placement(tmp_path):
    path = tmp_path / "placement.json"
    path.write_text(dumps_placement(reorder_ranks(groups_of([3, 1, 4]), "random:1")))
    return str(path)


@pytest.fixture
def nodes(tmp_path):
    path = tmp_path / "nodes.json"
    table = {"n0": ["a"], "n1": ["a"], "n2": ["b"], "n3": ["c"]}
    path.write_text(json.dumps({"format": "topocomm-placement", "version": 1, "levels": ["group"], "nodes": table}))
    return str(path)


def document(capsys, *words):
    assert main(["explain", *words, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("collective", TABLE)
def test_the_document_has_its_keys(collective, placement, capsys):
    doc = document(capsys, collective, "--bytes", "64K", "--placement", placement, "--order", "cyclic")
    assert list(doc) == KEYS
    assert (doc["collective"], doc["bytes"], doc["ranks"], doc["levels"]) == (collective, 65536, 8, ["group"])
    assert {c["algorithm"] for c in doc["candidates"]} == set(TABLE[collective])
    for c in doc["candidates"]:
        assert list(c) == CANDIDATE
        assert list(c["bytes_between"]) == list(c["bytes_over_bound"]) == ["group"]
        assert c["time_over_bound"] >= 1
    times = [c["time_us"] for c in doc["candidates"]]
    assert times == sorted(times)


def test_the_choice_is_that_of_the_library(placement, capsys):
    topology = reorder_ranks(groups_of([3, 1, 4]), "random:1")
    for nbytes in (8, 1 << 20):
        doc = document(capsys, "allgather", "--bytes", str(nbytes), "--placement", placement)
        decision = decide("allgather", nbytes, Chooser(topology))
        assert (doc["chosen"]["algorithm"], doc["chosen"]["why"]) == (decision.algorithm, decision.why)
        fastest = doc["candidates"][0]["algorithm"]
        assert doc["chosen"].get("model", {"algorithm": decision.algorithm})["algorithm"] == fastest


def test_bytes_are_those_of_the_bound(placement, capsys):
    doc = document(capsys, "allreduce", "--bytes", "1000", "--placement", placement)
    near = next(c for c in doc["candidates"] if c["algorithm"] == "rabenseifner")
    assert near["bytes_between"] == doc["bound"]["bytes_between"] == {"group": 4000}
    assert near["bytes_over_bound"] == {"group": 1}


def test_hosts_make_the_ranks_of_a_placement_by_nodes(nodes, capsys):
    words = ["bcast", "--bytes", "10", "--placement", nodes]
    assert document(capsys, *words)["ranks"] == 4
    doc = document(capsys, *words, "--hosts", "n3:2,n0")
    assert (doc["ranks"], doc["levels"]) == (3, ["group", "node"])


def test_the_table_names_the_choice(placement, capsys):
    assert main(["explain", "allreduce", "--bytes", "8", "--placement", placement]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if line.startswith("# Algorithm"))
    assert head.split()[2:6] == ["Rounds", "Time(us)", "/bound", "group"]
    assert lines[-2].startswith("# chosen: native: automatic: ")
    assert "in closed form" in lines[-2]
    assert lines[-1].startswith("# fastest schedule: ")


def test_machine_and_pictures(tmp_path, capsys):
    places, described = tmp_path / "p.json", tmp_path / "m.json"
    places.write_text(dumps_placement(dragonfly(3, 2, 2)))
    described.write_text(dumps_machine(machine.dragonfly()))
    words = ["--placement", str(places), "--machine", str(described)]
    assert main(["explain", "allreduce", "--bytes", "1M", *words, "--plot", str(tmp_path / "e.png")]) == 0
    assert (tmp_path / "e.png").stat().st_size > 10000
    more = ["--order", "given", "cyclic", "--json", str(tmp_path / "s.json"), "--plot", str(tmp_path / "s.svg")]
    assert main(["simulate", "bcast", "--bytes", "1K:4K,1M", *words, *more]) == 0
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert [(r["order"], r["bytes"]) for r in rows] == [
        (o, n) for o in ("given", "cyclic") for n in (1024, 2048, 4096, 1 << 20)
    ]
    assert capsys.readouterr().out.count("# Size") == 2
    assert (tmp_path / "s.svg").stat().st_size > 10000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["alltoallw", "--bytes", "8"], "unknown collective"),
        (["bcast", "--bytes", "lots"], "not a number of bytes"),
        (["bcast", "--bytes", "-1"], ""),
        (["bcast", "--bytes", "999999999999999999G"], "too large"),
        (["bcast", "--bytes", "8", "--order", "backwards"], "unknown order"),
        (["bcast", "--bytes", "8", "--order", "random:x"], "unknown order"),
        (["bcast", "--bytes", "8", "--root", "99"], "root below 8"),
        (["bcast", "--bytes", "8", "--hosts", "n0"], "by-node"),
        (["bcast", "--bytes", "8", "--machine", "/nowhere.json"], "cannot be read"),
        (["bcast", "--bytes", "8", "--plot", "x.txt"], "must end in"),
        (["bcast", "--bytes", "8", "--json", "/nowhere/x.json"], "cannot be written"),
    ],
)
def test_refusals_are_one_line(words, says, placement, capsys):
    try:
        code = main(["explain", *words, "--placement", placement])
    except SystemExit as e:
        code = e.code
    assert code == 2
    err = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1
    assert says in err[0]


def test_unfit_hosts_and_machines_are_refused(nodes, tmp_path, capsys):
    described = tmp_path / "m.json"
    described.write_text(dumps_machine(machine.torus((2, 2))))
    for words in (["--hosts", "n0:0"], ["--hosts", "n9"], ["--machine", str(described)]):
        assert main(["simulate", "bcast", "--placement", nodes, *words]) == 2
    assert capsys.readouterr().err.count("error:") == 3


def test_nothing_is_no_picture(placement, tmp_path, capsys):
    picture = tmp_path / "x.png"
    assert main(["explain", "barrier", "--bytes", "0", "--placement", placement, "--plot", str(picture)]) == 0
    assert picture.exists()
    assert main(["simulate", "bcast", "--bytes", "0", "--placement", placement, "--plot", str(picture)]) == 2
    assert "nothing to draw" in capsys.readouterr().err


def test_pair_loads_add_up():
    topology = fat_tree(3, 2, 2)
    found = explain("allreduce", 1200, topology)
    from topocomm.model import transfers

    matrix = pair_loads(transfers("allreduce", "rabenseifner", topology), topology, 1200)
    assert matrix.sum() == pytest.approx(found.bound_between["pod"])
    assert (np.diag(matrix) == 0).all()


def test_a_sweep_gives_what_explain_gives():
    topology = dragonfly(3, 2, 2)
    found = explain("reduce", 4096, topology)
    point = sweep("reduce", [4096], [c.algorithm for c in found.candidates], topology, found.machine)[0]
    assert point.seconds == {c.algorithm: c.seconds for c in found.candidates}
    assert point.fastest == found.fastest.algorithm


def test_what_would_take_minutes_is_left_out():
    assert explain_names("reduce_scatter", Topology.flat(4096)) == {
        "pairwise": "more than 8388608 messages",
        "direct": "more than 524288 messages at once",
    }
    assert explain_names("allgather", two_level(512, 8)) == {"direct": "more than 524288 messages at once"}
    assert explain_names("allreduce", two_level(64, 64)) == {}


def explain_names(collective, topology):
    return candidates_of(collective, topology)[1]


def test_one_rank_costs_nothing():
    found = explain("allreduce", 8, Topology(("node",), [["a"]]))
    assert {c.seconds for c in found.candidates} == {0.0}
    assert found.fastest.time_over_bound is None


def test_a_long_chain_is_left_out_and_said_so():
    names, left_out = candidates_of("bcast", groups_of([64] * 9))
    assert "pipeline" not in names
    assert left_out["pipeline"] == "more than 512 ranks"
    assert "pipeline" in candidates_of("bcast", groups_of([64] * 8))[0]
