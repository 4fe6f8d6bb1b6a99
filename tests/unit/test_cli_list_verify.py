"""The commands ``list`` and ``verify``, in process: what they print, what they refuse, and their exit codes."""

import argparse
import json
from dataclasses import replace
from types import MappingProxyType

import pytest

from topocomm import AlgorithmError, Topology, TopologyError
from topocomm.algorithms import TABLE, table
from topocomm.algorithms.forms import textbook_allgather
from topocomm.cli import list as list_command
from topocomm.cli import verify as verify_command
from topocomm.collectives import COLLECTIVES, RELATIVES
from topocomm.comm import coverage
from topocomm.comm.methods import FORMS, methods
from topocomm.schedule import Recv, Round, Send
from topocomm.topology import dumps_placement, groups_of, reorder_ranks


def call(command, *words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


# -- list


def test_list_names_every_algorithm(capsys):
    assert call(list_command) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    words = "collective algorithm kind requires rounds at 8/100/1024 vectors sent order options summary"
    assert head.split() == words.split()
    assert [tuple(line.split()[:2]) for line in lines] == [(c, a) for c in COLLECTIVES for a in TABLE[c]]


def test_list_of_one_collective(capsys):
    assert call(list_command, "allgather", "-p", "8,6") == 0
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert len(lines) == 1 + len(TABLE["allgather"])
    row = lines["textbook_recursive_doubling"]
    assert all(x in row for x in ("baseline", "p a power of two", " 3/- ", " 0.88/- "))
    assert all(
        x in lines["bruck"] for x in ("topology-aware", "any p", " 3/3 ", " 0.88/0.83 ", "local,exchange,direct")
    )


def test_list_as_json(capsys):
    assert call(list_command, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["collective"], r["algorithm"]) for r in rows] == [(c, a) for c in COLLECTIVES for a in TABLE[c]]
    assert {r["kind"] for r in rows} == {"baseline", "topology-aware"}
    (row,) = [r for r in rows if (r["collective"], r["algorithm"]) == ("allreduce", "rabenseifner")]
    assert row["rounds"] == {"8": 6, "100": 14, "1024": 20}
    assert row["vectors_sent"] == {"8": 1.75, "100": 1.98, "1024": 1.998}
    assert (row["keeps_order"], row["reordering"], row["options"]) == (False, ["none"], [])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["gatherv"], "unknown collective 'gatherv'"),
        (["-p", "0"], "no list of numbers"),
        (["-p", "8,x"], "no list of numbers"),
    ],
)
def test_list_refuses(words, reason):
    with pytest.raises(AlgorithmError, match=reason):
        call(list_command, *words)


def test_coverage_has_a_record_for_every_collective_method_of_mpi4py():
    bases = {base for base, _ in methods().values()}
    assert bases == {*COLLECTIVES, *RELATIVES}
    assert not {*COLLECTIVES} & {*RELATIVES}
    forms = [form for base, form in methods().values() if base == "allreduce"]
    assert forms == [*FORMS]
    assert {"Send", "Recv", "Psend_init", "Bsend_init", "Dup"}.isdisjoint(methods())


def test_coverage_forgets_no_new_method(monkeypatch):
    """A collective that mpi4py gets and nobody here has heard of is shown, as the library's."""
    monkeypatch.setattr(coverage, "RELATIVES", {name: r for name, r in RELATIVES.items() if name != "gatherv"})
    methods.cache_clear()
    rows = {row.method: row for row in coverage.coverage()}
    methods.cache_clear()
    assert (rows["Gatherv"].by, rows["Gatherv"].when) == ("MPI library", "not known to topocomm")


def test_list_of_coverage(capsys):
    assert call(list_command, "--coverage") == 0
    shown = capsys.readouterr()
    head, *lines = shown.out.splitlines()
    assert head.split("  ")[0] == "method"
    assert [line.split()[0] for line in lines] == [*methods()]
    assert "intercommunicators" in shown.err
    assert call(list_command, "alltoallw", "--coverage", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in rows] == ["Alltoallw", "Ialltoallw", "Alltoallw_init"]
    assert "named for alltoall" in rows[0]["when"]
    with pytest.raises(AlgorithmError, match="unknown collective 'dup'"):
        call(list_command, "--coverage", "dup")


# -- verify


def proved(capsys, *words):
    assert call(verify_command, *words, "-j", "1", "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["faults"] == []
    return {(row["collective"], row["algorithm"]): row for row in document["proved"]}


def test_verify_proves_every_algorithm(capsys):
    rows = proved(capsys, "-p", "1:5", "--random", "2", "--max-ranks", "9")
    assert list(rows) == [(c, a) for c in COLLECTIVES for a in TABLE[c]]
    for (collective, name), row in rows.items():
        able = 3 if TABLE[collective][name].power_of_two else 5
        assert row["schedules"] >= able + 2
        assert (row["random_placements"], row["min_ranks"], row["faults"]) == (2, 1, 0)
        assert row["max_ranks"] == (8 if TABLE[collective][name].power_of_two else 9)
        assert row["messages"] > 0


def test_verify_covers_roots_ways_orders_and_radices(capsys):
    rows = proved(capsys, "-p", "4", "--random", "0")
    assert rows["bcast", "binomial"]["schedules"] == 4
    assert rows["reduce", "binomial"]["schedules"] == 4 * 2
    assert rows["allgather", "recursive_doubling"]["schedules"] == 3
    assert rows["allreduce", "textbook_recursive_doubling"]["schedules"] == 2
    assert rows["alltoall", "bruck"]["schedules"] == 3


def test_verify_chosen_algorithms(capsys):
    words = ("allgather", "reduce_scatter", "--algorithm", "ring,pairwise:direct", "-p", "3", "--random", "0")
    assert list(proved(capsys, *words)) == [
        ("allgather", "ring"),
        ("reduce_scatter", "ring"),
        ("reduce_scatter", "pairwise:direct"),
    ]


def test_verify_a_placement_file(capsys, tmp_path):
    path = tmp_path / "places.json"
    path.write_text(dumps_placement(reorder_ranks(groups_of([3, 1, 2]), "random:1")), encoding="utf-8")
    rows = proved(capsys, "--topology", str(path), "allreduce", "allgather")
    assert {(r["min_ranks"], r["max_ranks"]) for r in rows.values() if r["schedules"]} == {(6, 6)}
    assert rows["allgather", "bruck"]["schedules"] == 3
    assert rows["allgather", "textbook_recursive_doubling"]["schedules"] == 0


def test_verify_prints_a_table_and_its_progress(capsys, tmp_path):
    kept = tmp_path / "proved.json"
    words = ("barrier", "-p", "1:4", "--random", "1", "--max-ranks", "4", "-j", "2", "--json", str(kept))
    assert call(verify_command, *words) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["collective", "barrier", "barrier", "all"]
    assert out.splitlines()[-1].split()[-1] == "yes"
    assert "10/10 proved" in err
    assert len(json.loads(kept.read_text(encoding="utf-8"))["proved"]) == 2


def test_random_tasks_are_repeatable_and_run_to_the_largest():
    chosen = [("allgather", "ring"), ("allgather", "textbook_recursive_doubling")]
    tasks = verify_command.plan_tasks(chosen, range(1, 3), 5, 100, 7, None)
    assert tasks == verify_command.plan_tasks(chosen, range(1, 3), 5, 100, 7, None)
    assert [t.size for t in tasks] == sorted((t.size for t in tasks), reverse=True)
    assert tasks[0].size == 100
    assert {t.size for t in tasks if t.algorithm.startswith("textbook")} <= {1, 2, 4, 8, 16, 32, 64}
    assert [t.topology() for t in tasks] == [t.topology() for t in tasks]


def wrong_rounds(p, r):
    """A ring that forgets its last round."""
    one = [range(x % p, x % p + 1) for x in range(2 * p)]
    rounds = [
        Round((Send((r + 1) % p, one[r - t + p]),), (Recv((r - 1) % p, one[r - t - 1 + p]),)) for t in range(p - 1)
    ]
    return tuple(rounds[: -1 if p > 2 else None])


def test_verify_reports_a_wrong_algorithm_and_exits_with_1(capsys, monkeypatch):
    entries = dict(TABLE["allgather"])
    entries["textbook_ring"] = replace(entries["textbook_ring"], form=textbook_allgather(wrong_rounds))
    for module in (table, verify_command):
        monkeypatch.setattr(module, "TABLE", MappingProxyType({**TABLE, "allgather": MappingProxyType(entries)}))
    assert call(verify_command, "allgather", "-p", "2:4", "--random", "0", "-j", "1") == 1
    out, err = capsys.readouterr()
    assert "textbook_ring" in next(line for line in out.splitlines() if line.endswith("WRONG"))
    wrong = [line for line in err.splitlines() if line.startswith("wrong: ")]
    assert len(wrong) == 2
    assert wrong[1] == (
        "wrong: allgather textbook_ring, 3 ranks: rank 0: output 1 is nothing, needs block 0 of rank 1 "
        "[3 ranks, in topology order]"
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["gatherv"], "unknown collective 'gatherv'"),
        (["--algorithm", "nothing"], "unknown allgather algorithm 'nothing'"),
        (["-p", "0:3"], "holds no number of ranks"),
        (["-p", "5:3"], "holds no number of ranks"),
        (["-p", "a"], "no range of ranks"),
        (["-p", "1:"], "no range of ranks"),
        (["--random", "-1"], "must be 0 or more"),
        (["--max-ranks", "0"], "at least 1"),
        (["-p", "3", "--random", "0", "allgather", "--algorithm", "textbook_recursive_doubling"], "nothing to prove"),
    ],
)
def test_verify_refuses(words, reason):
    with pytest.raises(AlgorithmError, match=reason):
        call(verify_command, *words)


def test_verify_refuses_placements_that_do_not_place_ranks(tmp_path):
    path = tmp_path / "nodes.json"
    path.write_text(
        '{"format": "topocomm-placement", "version": 1, "levels": [], "nodes": {"a": []}}', encoding="utf-8"
    )
    with pytest.raises(AlgorithmError, match="places nodes, not ranks"):
        call(verify_command, "--topology", str(path))
    with pytest.raises(TopologyError, match="cannot be read"):
        call(verify_command, "--topology", str(tmp_path / "none"))


def test_a_task_knows_its_topology():
    assert verify_command.Task("allgather", "ring", 5).topology() == Topology.flat(5)
    assert verify_command.Task("allgather", "ring", 5, 2).topology().size == 5
