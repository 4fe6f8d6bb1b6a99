"""Exports: at every size and number of ranks the rules say what was measured, read as the libraries read them."""

import json

import pytest

from topocomm.algorithms import TABLE
from topocomm.choose.export import mpich, openmpi
from topocomm.choose.measured import Entry, Timing, Tuning, class_of, dumps_tuning
from topocomm.choose.measured.spans import Span, entries_of, spans_of
from topocomm.cli import main
from topocomm.errors import Error

FAST, SLOW = Timing(1.0, 9, 0.1), Timing(2.0, 9, 0.1)


def entry(nbytes, best, collective="allreduce", ranks=4, signature="0" * 16, library="MPICH 5.0.2", **more):
    times = {"native": SLOW, best: FAST} if best != "native" else {"native": FAST, "textbook_ring": SLOW}
    return Entry(collective, nbytes, ranks, signature, more.pop("type_class", class_of(collective)), library, "python",
                 "2026-01-31T23:59:59Z", {**times, **more})  # fmt: skip


ENTRIES = [
    entry(1000, "textbook_recursive_doubling"),
    entry(4000, "textbook_ring"),
    entry(8000, "textbook_ring"),
    entry(16000, "native"),
    entry(64000, "textbook_rabenseifner"),
    entry(1000, "textbook_ring", ranks=6, signature="6" * 16),
]
DOUBLING, RING, RABENSEIFNER = (mpich.EQUIVALENTS["allreduce"][f"textbook_{name}"]
                                for name in ("recursive_doubling", "ring", "rabenseifner"))  # fmt: skip
EDGES = [0, 1, 499, 500, 2000, 2001, 11313, 11314, 32000, 32001, 128000, 128001, 2**31 - 1]


def wanted(nbytes, ranks):
    """What ENTRIES mean."""
    if ranks == 6:
        return RING if 500 <= nbytes <= 2000 else None
    if ranks != 4:
        return None
    limits = [(500, 2000, DOUBLING), (2001, 11313, RING), (32001, 128000, RABENSEIFNER)]
    return next((name for first, last, name in limits if first <= nbytes <= last), None)


def test_a_size_holds_half_way_to_the_next_and_at_most_a_factor_of_two():
    spans, remarks = spans_of(ENTRIES, mpich.EQUIVALENTS)
    assert spans["allreduce"][4] == [Span(500, 2000, DOUBLING), Span(2001, 11313, RING),
                                     Span(32001, 128000, RABENSEIFNER)]  # fmt: skip
    assert remarks == []


def test_sizes_without_equivalent_are_named():
    entries = [
        entry(1000, "ring"),
        entry(2000, "ring", textbook_ring=Timing(1.5, 9, 0.1)),
        entry(3000, "textbook_ring", type_class="ordered"),
        entry(4000, "binomial", collective="gather"),
    ]
    spans, remarks = spans_of(entries, mpich.EQUIVALENTS)
    assert spans == {"allreduce": {4: [Span(1415, 4000, RING)]}}
    assert remarks == [
        "allreduce of 3000 bytes on 4 ranks: left out: the operation is not commutative",
        "allreduce of 1000 bytes on 4 ranks: no equivalent was measured (there are textbook_recursive_doubling, "
        "textbook_ring, textbook_rabenseifner)",
        "allreduce of 2000 bytes on 4 ranks: ring is 1.50 times as fast as textbook_ring, but has no equivalent",
        "gather of 4000 bytes on 4 ranks: no equivalent was measured (there is none)",
    ]


@pytest.mark.parametrize("same", [mpich.EQUIVALENTS, openmpi.equivalents(True)])
def test_equivalents_are_textbook_forms_that_there_are(same):
    for collective, table in same.items():
        assert all(TABLE[collective][name].baseline for name in table)


def test_one_version_and_one_topology_for_a_number_of_ranks():
    other = entry(1000, "native", signature="f" * 16)
    with pytest.raises(Error, match=r"4 ranks were measured on several topologies.*say which with --signature"):
        entries_of(Tuning((*ENTRIES, other)), "MPICH")
    assert entries_of(Tuning((*ENTRIES, other)), "MPICH", "f" * 16) == [other]
    older = entry(1000, "native", library="MPICH 4.0")
    with pytest.raises(Error, match=r"measured under MPICH 4.0, MPICH 5.0.2; say which with --mpi-library"):
        entries_of(Tuning((*ENTRIES, older)), "MPICH")
    assert entries_of(Tuning((*ENTRIES, older)), "MPICH 4.0") == [older]
    with pytest.raises(Error, match=r"nothing was measured under Open MPI; found MPICH 5.0.2"):
        entries_of(Tuning(tuple(ENTRIES)), "Open MPI")


# -- Open MPI --------------------------------------------------------------------------------------------------


def look_up(text, number, ranks, nbytes):
    """As Open MPI does: the last section whose size is not above the communicator's (the first if there is none),
    and in it the last rule whose size is not above the message's.
    """
    words = iter([word for line in text.splitlines() for word in line.partition("#")[0].split()])

    def get():
        return int(next(words))

    found = None
    for _ in range(get()):
        collective, sections = get(), []
        for _ in range(get()):
            size = get()
            sections.append((size, [(get(), get(), get(), get()) for _ in range(get())]))
            assert [rule[0] for rule in sections[-1][1]] == sorted({rule[0] for rule in sections[-1][1]})
            assert sections[-1][1][0][0] == 0, "Open MPI wants a rule for no bytes first"
        if collective == number:
            fitting = [rules for size, rules in sections if size <= ranks] or [sections[0][1]]
            found = [rule[1] for rule in fitting[-1] if rule[0] <= nbytes][-1]
    assert next(words, None) is None
    return found


@pytest.mark.parametrize("ranks", [1, 3, 4, 5, 6, 7, 100])
def test_open_mpi_finds_what_was_measured(ranks):
    numbers = {DOUBLING: 3, RING: 4, RABENSEIFNER: 6, None: 0}
    extra = [entry(1000, "textbook_binomial", "bcast"), entry(0, "textbook_dissemination", "barrier")]
    text = openmpi.classic_rules(spans_of([*ENTRIES, *extra], openmpi.equivalents(True))[0])
    for nbytes in EDGES:
        assert look_up(text, 2, ranks, nbytes) == numbers[wanted(nbytes, ranks)], nbytes
    assert look_up(text, 7, ranks, 1000) == (6 if ranks == 4 else 0)
    assert look_up(text, 6, ranks, 0) == (4 if ranks == 4 else 0)
    assert look_up(text, 0, ranks, 1000) is None


def test_open_mpi_6_finds_what_was_measured():
    doc = json.loads(openmpi.json_rules(spans_of(ENTRIES, openmpi.equivalents(True))[0]))
    assert {key: doc[key] for key in doc if key != "collectives"} == {"rule_file_version": 3, "module": "tuned"}
    numbers = {DOUBLING: 3, RING: 4, RABENSEIFNER: 6, None: None}
    for ranks in (3, 4, 5, 6):
        for nbytes in EDGES:
            rules = [r for part in doc["collectives"]["allreduce"]
                     if part["comm_size_min"] <= ranks <= part["comm_size_max"] for r in part["rules"]]  # fmt: skip
            found = [r["alg"] for r in rules if r["msg_size_min"] <= nbytes <= r["msg_size_max"]]
            assert (found or [None])[0] == numbers[wanted(nbytes, ranks)]
    names = json.loads(openmpi.json_rules({"reduce_scatter_block": {2: [Span(1, 2, "3")]}}))["collectives"]
    assert list(names) == ["reducescatterblock"]


def test_what_open_mpi_gets_wrong_without_commutativity_is_left_out_unless_asked_for():
    left_out = {
        (collective, name)
        for collective, table in openmpi.equivalents(True).items()
        for name in set(table) - set(openmpi.equivalents(False)[collective])
    }
    assert left_out == {("allreduce", "textbook_ring"), ("reduce", "textbook_binomial"),
                        ("reduce_scatter", "textbook_recursive_halving")}  # fmt: skip


# -- MPICH -----------------------------------------------------------------------------------------------------

OWN = {"algorithm=OWN": {}}
BASE = {f"collective={name}": {"comm_type=intra": OWN, "comm_type=inter": {"algorithm=INTER": {}}}
        for name in (*mpich.EQUIVALENTS, "iallreduce", "scan")}  # fmt: skip


def decide(tree, facts):
    """As MPICH does: of the branches of a node the first whose condition holds."""
    while True:
        for key, branch in tree.items():
            what, _, value = key.partition("=")
            if what == "algorithm":
                return value
            left = what.rstrip("<")
            if value == "any" or facts.get(left) == value or (what != left and _below(facts[left], what, key)):
                tree = branch
                break
        else:
            return None


def _below(fact, what, key):
    limit = key.split("<", 1)[1].lstrip("=")
    return fact < facts_pow2(limit) if "<=" not in key else fact <= int(limit)


def facts_pow2(limit):
    return 4 if limit == "pow2" else int(limit)


@pytest.mark.parametrize("ranks", [1, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("commutative", ["yes", "no"])
@pytest.mark.parametrize("built_in", ["yes", "no"])
def test_mpich_finds_what_was_measured_where_it_may_run(ranks, commutative, built_in):
    tree = json.loads(mpich.selection(BASE, spans_of(ENTRIES, mpich.EQUIVALENTS)[0]))["collective=allreduce"]
    for nbytes in EDGES:
        facts = {"comm_type": "intra", "comm_size": ranks, "avg_msg_size": nbytes, "count": nbytes // 8,
                 "is_commutative": commutative, "is_op_built_in": built_in}  # fmt: skip
        name = wanted(nbytes, ranks)
        if (name == RING and commutative == "no") or (name == RABENSEIFNER and "no" in (commutative, built_in)):
            name = None
        assert decide(tree, facts) == (name or "OWN"), nbytes
        assert decide(tree, {**facts, "comm_type": "inter"}) == "INTER"


def test_mpich_keeps_all_that_was_not_tuned():
    tree = json.loads(mpich.selection(BASE, spans_of(ENTRIES, mpich.EQUIVALENTS)[0]))
    assert {k: v for k, v in tree.items() if k != "collective=allreduce"} == {
        k: v for k, v in BASE.items() if k != "collective=allreduce"
    }


def test_mpich_all_to_all_in_place_is_left_alone():
    spans = spans_of([entry(1000, "textbook_pairwise", "alltoall")], mpich.EQUIVALENTS)[0]
    tree = json.loads(mpich.selection(BASE, spans))["collective=alltoall"]
    facts = {"comm_type": "intra", "comm_size": 4, "total_msg_size": 1000}
    assert decide(tree, {**facts, "is_sendbuf_inplace": "no"}) == "MPIR_Alltoall_intra_pairwise"
    assert decide(tree, {**facts, "is_sendbuf_inplace": "yes"}) == "OWN"


def test_mpich_own_tree_is_found_in_a_library_and_in_a_file(tmp_path):
    text = json.dumps(BASE).encode()
    other = json.dumps({"collective=bcast": {"composition=X": {}}}).encode()
    (tmp_path / "lib").write_bytes(b"\x7fELF{\0" + other + b'\0{"collective=x\0}\0' + text + b"\0\xff{}")
    (tmp_path / "file").write_bytes(text)
    assert mpich.compiled_in(tmp_path / "lib") == mpich.compiled_in(tmp_path / "file") == BASE
    (tmp_path / "script").write_bytes(b"INPUT(libmpi.so.12)\n" + other)
    with pytest.raises(Error, match="script: holds no selection tree of MPICH; give"):
        mpich.compiled_in(tmp_path / "script")
    with pytest.raises(Error, match="nothing: cannot be read"):
        mpich.compiled_in(tmp_path / "nothing")
    with pytest.raises(Error, match="no 'comm_type=intra' under 'collective=allreduce'"):
        mpich.selection({**BASE, "collective=allreduce": {}}, spans_of(ENTRIES, mpich.EQUIVALENTS)[0])


# -- the command -----------------------------------------------------------------------------------------------


def test_the_command_exports_and_merges(tmp_path, capsys):
    base, source, out = (tmp_path / name for name in ("base", "t.json", "out"))
    base.write_text(json.dumps(BASE))
    source.write_text(dumps_tuning(Tuning((*ENTRIES, entry(2**20, "ring")))))
    words = ["tune", "--from", str(source), "--output", str(out), "--export"]
    assert main([*words, "mpich", "--base", str(base)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: 4 rules for allreduce from 7 points\n"
    assert "topocomm: allreduce of 1048576 bytes on 4 ranks: no equivalent was measured" in said.err
    assert RING in out.read_text()
    other = tmp_path / "other.json"
    other.write_text(dumps_tuning(Tuning((entry(1000, "native"),))))
    assert main(["tune", "--merge", str(source), str(other), "--save", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: 7 entries from 2 files\n"
    assert "taken from" in said.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--export", "openmpi", "--from", "t.json"], "--export needs --from TUNING and --output FILE"),
        (["--export", "mpich", "--from", "t", "--output", "o"], "mpich needs --base, its library libmpi.so.12"),
        (["--export", "openmpi", "--from", "t", "--output", "o", "--base", "b"], "openmpi takes no --base"),
        (["--export", "mpich", "--from", "t", "--output", "o", "--base", "b", "--commutative"], "no --commutative"),
        (["--export", "openmpi", "--from", "t", "--output", "o", "--mpi-library", "MPICH 4"], "is not Open MPI"),
        (["--export", "openmpi", "--from", "nothing", "--output", "o"], "nothing: cannot be read"),
        (["--export", "openmpi", "--sizes", "1K"], "--export takes no --sizes"),
        (["--export", "intelmpi"], "invalid choice: 'intelmpi'"),
        (["--merge", "a.json"], "--merge writes to the file of --save; say which"),
        (["--merge", "a.json", "--from", "b.json"], "--merge takes no --from"),
        (["--from", "a.json"], "measuring (no --export) takes no --from"),
        (["--resume"], "--resume goes on with the file of --save; say which"),
        (["--all", "--algorithms", "ring"], "--all and --algorithms both say what to measure"),
        (["--algorithms", "native"], "--algorithms names native alone"),
        (["--algorithms", "rung"], "no algorithm 'rung' for"),
        (["--algorithms", "ring:radix=2"], "has no radix"),
        (["--ordered", "--collectives", "allgather"], "--ordered is for allreduce"),
        (["--collectives", "allreduc"], "unknown collective 'allreduc'"),
        (["--seconds", "0"], "'0' is no number of seconds above 0"),
        (["--repetitions", "0"], "'0' is no whole number"),
        (["--sizes", "4K:1K"], "'4K:1K' is no range of sizes"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(words, says, capsys):
    try:
        code = main(["tune", *words])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert says in said.err
    assert said.err.count("\n") == 1
