"""The choice by the model: what it weighs, that what it names can run, and what overrules it."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import topologies

from topocomm.algorithms import TABLE, find, make_schedule
from topocomm.choose.measured import Entry, Timing, Tuning
from topocomm.choose.modelled import CLASSES, TIE, Chooser, ModelCache, rounded
from topocomm.choose.rule import NATIVE, WHOLE, decide, size_classes
from topocomm.collectives import REDUCING
from topocomm.engines import ENGINES
from topocomm.errors import AlgorithmError, TopologyError
from topocomm.model import Level, Machine
from topocomm.topology import Topology, reorder_ranks

RACKS = Topology(("rack", "node"), [(f"r{i // 4}", f"h{i}") for i in range(16)])
SLOW = Machine("levels", (Level("rack", 5e6, 5e6, 2e-5), Level("node", 5e6, 5e6, 2e-5)), source="slow.json")
FAST = Machine("levels", (Level("rack", 25e9, 25e9, 2e-7), Level("node", 25e9, 25e9, 2e-7)), source="fast.json")


@pytest.mark.parametrize("collective", [c for c in TABLE if c != "barrier"])
def test_the_machine_decides(collective):
    """64 KiB between ranks dealt out over racks: bytes decide at 5 MB/s, the engine's costs at 25 GB/s."""
    cyclic = reorder_ranks(RACKS, "cyclic")
    slow, fast = (decide(collective, 1 << 16, Chooser(cyclic, m, engine="python")) for m in (SLOW, FAST))
    in_c = decide(collective, 1 << 16, Chooser(cyclic, SLOW))
    assert in_c.algorithm not in (NATIVE, *(n for n in TABLE[collective] if n.startswith("textbook_")))
    assert slow.algorithm not in (NATIVE, *(n for n in TABLE[collective] if n.startswith("textbook_")))
    assert fast.algorithm == NATIVE
    assert "slow.json" in slow.why
    assert "fast.json" in fast.why
    chosen, simulated = (getattr(Chooser(cyclic, SLOW), how)(collective, 1 << 16) for how in ("choose", "simulate"))
    assert 0 < simulated.bound <= simulated.seconds <= simulated.library_seconds * (1 + TIE)
    assert chosen.seconds == pytest.approx(simulated.seconds, rel=0.1)
    assert chosen.library_seconds == pytest.approx(simulated.library_seconds, rel=0.25)
    assert "in closed form" in chosen.why
    assert "by simulation" in simulated.why


def test_a_tie_is_ours_and_less_is_not():
    choice = Chooser(RACKS, SLOW).choose("allgather", 1 << 20)
    assert choice.library == "textbook_ring"  # in topology order the MPI library may be as good
    assert 1 <= choice.seconds / choice.library_seconds <= 1 + TIE
    assert choice.is_ours
    quick = Chooser(RACKS, FAST).choose("allgather", 1 << 10)
    assert quick.seconds > quick.library_seconds * (1 + TIE)
    assert not quick.is_ours


@given(
    topologies(max_ranks=20), st.sampled_from([c for c in TABLE if c != "barrier"]), st.integers(0, 1 << 24), st.data()
)
def test_what_is_chosen_can_run(topology, collective, nbytes, data):
    commutative = collective not in REDUCING or data.draw(st.booleans())
    machine = Machine("levels", tuple(Level(name, 5e6, 5e6) for name in topology.levels))
    root = data.draw(st.integers(0, topology.size - 1))
    decision = decide(collective, nbytes, Chooser(topology, machine), commutative=commutative, root=root)
    if decision.algorithm == NATIVE:
        assert decision.engine == NATIVE
        return
    assert topology.has_distance
    schedule = make_schedule(collective, decision.algorithm, topology, root, ordered=not commutative)
    assert commutative or schedule.in_order


def test_sizes_are_asked_for_once_an_octave_half():
    assert rounded(0) == 0
    assert {rounded(n) for n in range(1000, 1100)} == {1024}
    assert rounded(1500) == rounded(1448) == 1448
    chooser = Chooser(RACKS, SLOW)
    assert chooser.choose("allreduce", 1000) is chooser.choose("allreduce", 1100)
    assert chooser.choose("allreduce", 1000) is not chooser.choose("allreduce", 1000, ordered=True)


def test_sizes_are_rounded_in_whole_numbers():
    assert [rounded(n) for n in range(1, 9)] == [1, 2, 3, 4, 6, 6, 8, 8]
    for n in (n for first in CLASSES[4:80] for n in (first - 1, first, first + 1)):
        ratios = {k: max(Fraction(n**4, 4**k), Fraction(4**k, n**4)) for k in range(160)}
        nearest = min(ratios, key=ratios.__getitem__)
        assert abs(Fraction(rounded(n)) ** 2 - 2**nearest) <= rounded(n), n


@pytest.mark.parametrize("tuned", [False, True])
def test_a_class_of_sizes_is_decided_alike(tuned):
    """At its first and last size, and where native, the model, and measured sizes meet."""
    tuning = Tuning(tuple(_entry(n, fastest) for n, fastest in ((1000, "ring"), (1500, "direct"), (6000, "native"))))
    chooser = Chooser(RACKS, SLOW, tuning if tuned else None, "Some MPI 1.0")
    for whole in (False, True):
        cuts = size_classes("allreduce", chooser)
        named = lambda n: decide("allreduce", n, chooser, whole=whole).algorithm  # noqa: E731
        seen = [named(n) for n in (0, *cuts[:20])]
        assert [named(n - 1) for n in cuts[:20]] == seen[:-1]
        assert len(set(seen)) > (1 if whole else 2)
        for low, high in pairwise(cuts[:12]):
            assert {named(n) for n in range(low, high, 97)} == {named(low)}


@pytest.mark.parametrize("collective", ["allreduce", "reduce", "reduce_scatter", "reduce_scatter_block"])
@pytest.mark.parametrize("commutative", [True, False])
@pytest.mark.parametrize("machine", [SLOW, FAST])
def test_vectors_that_must_stay_whole_do(collective, commutative, machine):
    for topology in (RACKS, reorder_ranks(RACKS, "cyclic"), RACKS.restrict(range(7))):
        chooser = Chooser(topology, machine)
        for nbytes in (600, WHOLE - 1, WHOLE, 1 << 16, 1 << 24):
            decision = decide(collective, nbytes, chooser, commutative=commutative, whole=True)
            if decision.algorithm == NATIVE:
                assert nbytes < WHOLE or collective.startswith("reduce_scatter")
            else:
                assert find(collective, decision.algorithm)[0].whole
    measured = Tuning((_entry(1 << 20, "ring"),))
    tuned = Chooser(RACKS, SLOW, measured, "Some MPI 1.0")
    assert decide("allreduce", 1 << 20, tuned).algorithm == "ring"
    assert decide("allreduce", 1 << 20, tuned, whole=True).algorithm == "recursive_doubling"
    with pytest.raises(AlgorithmError, match=r"elementwise.*use one of: recursive_doubling"):
        decide("allreduce", 1 << 20, tuned, named="ring", whole=True)


def _entry(nbytes, fastest):
    times = {name: Timing(2.0, 1, 0.0) for name in ("ring", "direct", NATIVE)} | {fastest: Timing(1.0, 1, 0.0)}
    call = "allreduce", nbytes, 16, RACKS.signature, "commutative", "Some MPI 1.0", ENGINES[0]
    return Entry(*call, "2026-01-31T00:00:00Z", times)


def test_with_one_memory_nothing_is_worked_out_twice(monkeypatch):
    """Where places are renamed, too; another order of ranks, of labels or another machine is something else."""
    memory = ModelCache()
    racks = Topology(RACKS.levels, [(f"r{i // 4}", f"h{i:02}") for i in range(16)])
    choice = Chooser(racks, SLOW, memory=memory).choose("allreduce", 1000)
    renamed = Topology(RACKS.levels, [(f"s{i // 4}", f"k{i:02}") for i in range(16)])
    turned = Topology(RACKS.levels, [(f"s{3 - i // 4}", f"k{15 - i:02}") for i in range(16)])

    def again(*_):
        raise AssertionError("modelled again")

    monkeypatch.setattr("topocomm.choose.modelled.Instant", again)
    for topology in (racks, renamed):
        assert Chooser(topology, SLOW, memory=memory).choose("allreduce", 1001) is choice
    assert renamed.signature == turned.signature
    cyclic = reorder_ranks(racks, "cyclic")
    for topology, machine, known in (
        (turned, SLOW, memory), (cyclic, SLOW, memory), (racks, FAST, memory), (racks, SLOW, ModelCache()),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="again"):
            Chooser(topology, machine, memory=known).choose("allreduce", 1000)


def test_a_choice_that_was_adopted_counts_for_this_chooser_alone():
    memory = ModelCache()
    first, second = Chooser(RACKS, SLOW, memory=memory), Chooser(RACKS, SLOW, memory=memory)
    mine = first.choose("bcast", 5000)
    theirs = replace(mine, algorithm="binomial")
    second.adopt("bcast", 5000, False, theirs)
    assert second.choose("bcast", 5000) is theirs
    assert first.choose("bcast", 5000) is mine
    assert Chooser(RACKS, SLOW, memory=memory).choose("bcast", 5000) is mine


def test_memory_keeps_the_last_topologies():
    memory = ModelCache()
    identities = [Chooser(Topology.flat(p), SLOW).identity for p in range(1, 20)]
    known = [memory.of(identity) for identity in identities]
    assert memory.of(identities[-1]) is known[-1]
    assert memory.of(identities[0]) is not known[0]


class Tuned:
    """What was measured, for a test."""

    source = "tuned.json"

    def __init__(self, name):
        self.name, self.asked = name, []

    def best(self, *question):
        self.asked.append(question)
        return self.name and (self.name, "measured on purpose")


def test_what_was_measured_overrules_the_model():
    for name, engine in (("native", "native"), ("textbook_ring", ENGINES[0])):
        tuned = Tuned(name)
        decision = decide("allreduce", 1 << 20, Chooser(RACKS, SLOW, tuned, "Some MPI 1.0"), commutative=False)
        assert (decision.algorithm, decision.engine) == (name, engine)
        assert "measured on purpose" in decision.why
        assert tuned.asked == [("allreduce", 1 << 20, RACKS.signature, False, "Some MPI 1.0", ENGINES[0])]
    unknown = decide("allreduce", 1 << 20, Chooser(RACKS, SLOW, Tuned(None)))
    assert unknown.algorithm == decide("allreduce", 1 << 20, Chooser(RACKS, SLOW)).algorithm
    assert "tuned.json has nothing" in unknown.why
    flat = Chooser(Topology.flat(4), None, Tuned("ring"))
    assert decide("bcast", 1 << 20, flat).algorithm == "ring"
    assert decide("allreduce", 1 << 20, Chooser(RACKS, SLOW, Tuned("native")), named="direct").algorithm == "direct"


def test_any_number_of_ranks_is_chosen_for():
    many = Chooser(Topology(("group", "node"), [[i // 512, i // 8] for i in range(4096)]))
    for collective in TABLE:
        assert (
            decide(collective, 1 << 20, many).algorithm in (NATIVE, *TABLE[collective])
            or ":" in decide(collective, 1 << 20, many).algorithm
        )
    assert decide("allreduce", 1 << 20, many).algorithm != NATIVE


def test_levels_that_a_machine_lacks():
    bound = Topology(("rack", "node", "socket"), [(i // 4, i // 2, i) for i in range(8)])
    assert "socket assumed" in Chooser(bound, SLOW).choose("bcast", 4096).machine
    with pytest.raises(TopologyError, match="'group'"):
        Chooser(Topology(("group", "rack", "node"), [(0, i // 4, i) for i in range(8)]), SLOW)


def test_figures_are_those_of_explain():
    decision = decide("reduce", 1 << 16, Chooser(RACKS, SLOW), root=5)
    document = decision.document()
    assert document["chosen"]["algorithm"] == decision.algorithm
    assert document["bytes"] == 1 << 16
    assert {c["algorithm"] for c in document["candidates"]} >= {"binomial", "pipeline"}
    assert decision.figures is decision.figures
    with pytest.raises(AlgorithmError, match="number of bytes"):
        _ = decide("reduce", 1 << 16, Chooser(RACKS, SLOW)).__class__("reduce", None, NATIVE, NATIVE, "").figures


def test_an_operation_matters_only_where_operands_are_combined():
    assert decide("bcast", 1 << 16, Chooser(RACKS, SLOW), commutative=False).algorithm != NATIVE
