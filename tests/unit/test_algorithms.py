"""Every algorithm of the table: proved for p = 1..64 and on random places; its figures against its schedules."""

import importlib
import pkgutil
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import materialise, with_parts
from places import topologies

import topocomm.algorithms
from topocomm import AlgorithmError, Topology
from topocomm.algorithms import TABLE, find, make_schedule
from topocomm.collectives import COLLECTIVES, PREFIXES, ROOTED
from topocomm.model import list_messages
from topocomm.schedule import Combine
from topocomm.schedule.verify import verify
from topocomm.topology import groups_of, reorder_ranks

ENTRIES = [a for collective in COLLECTIVES for a in TABLE[collective].values()]


def named(algorithm):
    return f"{algorithm.collective}-{algorithm.name}"


NAMES = list(map(named, ENTRIES))
FIELDS = ("Requires", "Rounds", "Bytes sent", "Cost", "Memory", "Locality", "Source")
every_algorithm = pytest.mark.parametrize("algorithm", ENTRIES, ids=NAMES)


def able(algorithm, low, high):
    return [p for p in range(low, high + 1) if algorithm.can_run(p)]


@pytest.mark.parametrize("name", TABLE["reduce_scatter"])
def test_reduce_scatter_block_has_the_schedules_of_reduce_scatter(name):
    """So that what is proved and counted of one holds for the other."""
    algorithm, block = TABLE["reduce_scatter"][name], TABLE["reduce_scatter_block"][name]
    assert block == replace(algorithm, collective="reduce_scatter_block")
    for p in able(algorithm, 5, 8):
        parts = [materialise(make_schedule(a.collective, name, Topology.flat(p))) for a in (algorithm, block)]
        assert repr(parts[0]) == repr(parts[1])


@pytest.mark.parametrize(
    "algorithm",
    [a for a in ENTRIES if a.collective != "reduce_scatter_block"],
    ids=named,
)
def test_proved_and_counted_on_equals(algorithm):
    """p = 1..64: correct, and rounds and bytes as the table says (exactly so for powers of two)."""
    for p in able(algorithm, 1, 64):
        schedule = make_schedule(algorithm.collective, algorithm.name, Topology.flat(p))
        parts = materialise(schedule)
        schedule = with_parts(schedule, parts)
        verify(schedule)
        messages = list_messages(schedule)
        rounds = max(len(part.rounds) for part in parts)
        sent = Fraction(int(messages.sent().max()), messages.vector or 1)
        exact = p & (p - 1) == 0
        assert rounds == algorithm.rounds(p) if exact else rounds <= algorithm.rounds(p), f"p = {p}"
        assert sent == algorithm.sent(p) if exact else sent <= algorithm.sent(p), f"p = {p}"


@every_algorithm
def test_whole_is_said_of_those_that_never_cut(algorithm):
    """Every message that is combined carries all slots of the vector, in order; of a scan a slot is a vector."""
    for p in able(algorithm, 2, 9):
        schedule = make_schedule(algorithm.collective, algorithm.name, Topology(("node",), [[r % 2] for r in range(p)]))
        combined = [
            list(recv.slots)
            for r in range(p)
            for rnd in schedule.part(r).rounds
            for recv in rnd.recvs
            if recv.combine is not Combine.REPLACE and schedule.nslots
        ]
        prefix = algorithm.collective in PREFIXES
        whole = all(len(slots) == 1 if prefix else slots == list(range(schedule.nslots)) for slots in combined)
        nothing = prefix and not combined  # an exscan of two ranks
        assert nothing or (whole and bool(combined)) >= algorithm.whole, f"p = {p}"
        if p == 9:
            assert algorithm.whole == (whole and bool(combined))


@every_algorithm
def test_every_root_way_and_order_up_to_17_ranks(algorithm):
    for p in able(algorithm, 1, 17):
        topology = Topology.flat(p)
        for root in range(p) if algorithm.collective in ROOTED else [0]:
            if algorithm.in_order:
                schedule = make_schedule(algorithm.collective, algorithm.name, topology, root, ordered=True)
                assert schedule.in_order
                verify(schedule)
            for way in algorithm.ways:
                text = algorithm.name if way == "none" else f"{algorithm.name}:{way}"
                verify(make_schedule(algorithm.collective, text, topology, root))


@every_algorithm
@settings(max_examples=25)
@given(topology=topologies(max_ranks=20), data=st.data())
def test_proved_on_random_places(algorithm, topology, data):
    """Unequal places on up to three levels, ranks in any order; any root, way, radix and order."""
    p = topology.size
    if algorithm.power_of_two and p & (p - 1):
        with pytest.raises(AlgorithmError, match="power of two"):
            make_schedule(algorithm.collective, algorithm.name, topology)
        return
    root = data.draw(st.integers(0, p - 1)) if algorithm.collective in ROOTED else 0
    options = [w for w in algorithm.ways if w != "none"] + ["radix=2", "radix=3", "radix=9"] * algorithm.radix
    options += ["radix=9/2", "radix=2/3/40"] * algorithm.radices + ["aggregate=1", "aggregate=3"] * algorithm.aggregate
    text = ":".join([algorithm.name, *data.draw(st.sampled_from([[], *([o] for o in options)]))])
    verify(make_schedule(algorithm.collective, text, topology, root))
    if not algorithm.in_order:
        if COLLECTIVES[algorithm.collective].reduces:
            with pytest.raises(AlgorithmError, match="order of ranks"):
                make_schedule(algorithm.collective, text, topology, root, ordered=True)
    elif topology.is_sorted or algorithm.name != "recursive_doubling":
        schedule = make_schedule(algorithm.collective, text, topology, root, ordered=True)
        assert schedule.in_order
        verify(schedule)


def test_asked_ways_are_the_ways_of_the_schedule():
    topology = reorder_ranks(groups_of([3, 4, 2]), "random:1")
    seen = set()
    for algorithm in ENTRIES:
        for way in algorithm.ways:
            if way not in ("none",) and algorithm.name != "textbook_bruck" and not algorithm.radix:
                schedule = make_schedule(algorithm.collective, f"{algorithm.name}:{way}", topology)
                assert schedule.reordering == way
                seen.add(way)
    assert seen == {"local", "exchange", "direct"}


def test_reordering_cancels_on_equals_that_are_no_power_of_two():
    for name in ("recursive_doubling:direct", "bruck:exchange"):
        assert make_schedule("allgather", name, Topology.flat(6)).reordering == "none"
    assert make_schedule("allgather", "recursive_doubling:direct", Topology.flat(8)).reordering == "direct"


@pytest.mark.parametrize(
    ("collective", "text", "reason"),
    [
        ("allgatherv", "ring", "unknown collective 'allgatherv'; known are allgather"),
        ("allgather", "rings", "unknown allgather algorithm 'rings'; known are recursive_doubling"),
        ("allgather", "ring:sideways", "unknown option 'sideways'"),
        ("allgather", "ring:none", "unknown option 'none'"),
        ("allgather", "ring:", "unknown option ''"),
        ("alltoall", "bruck:radix=1", "unknown option 'radix=1'"),
        ("alltoall", "bruck:direct", "cannot realise its reordering as 'direct'; it offers local"),
        (
            "allgather",
            "ring:radix=4",
            "has no radix; those that have are bruck, k_trees, knomial, kport, textbook_bruck, textbook_kport",
        ),
        ("alltoall", "bruck:radix=4/", "unknown option 'radix=4/'"),
        ("allgather", "textbook_recexch:radix=4/2", "has one radix, not one a level"),
        ("allgather", "ring:aggregate=2", "has no limit to aggregate; those that have are textbook_pat"),
        ("allgather", "textbook_pat:aggregate=0", "unknown option 'aggregate=0'"),
        ("allgather", "textbook_ring:local", "cannot realise its reordering"),
    ],
)
def test_unknown_names_are_refused(collective, text, reason):
    with pytest.raises(AlgorithmError, match=reason):
        make_schedule(collective, text, Topology.flat(4))


def test_bad_roots_and_sizes_are_refused():
    for root in (-1, 4):
        with pytest.raises(AlgorithmError, match=f"root {root} is not a rank; the communicator has 4"):
            make_schedule("bcast", "binomial", Topology.flat(4), root)
    with pytest.raises(AlgorithmError, match=r"power of two of ranks, the communicator has 6; use one of: .*bruck"):
        make_schedule("allgather", "textbook_recursive_doubling", Topology.flat(6))


def test_options_are_parsed():
    algorithm, options = find("alltoall", "bruck:radix=4")
    assert (algorithm.name, options.radix, options.way) == ("bruck", (4,), None)
    assert find("alltoall", "bruck:radix=64/2")[1].radix == (64, 2)
    assert find("allgather", "textbook_pat:aggregate=8")[1].aggregate == 8
    assert find("allgather", "ring:direct")[1].way == "direct"


NO_ALGORITHMS = {"counting", "entry", "folding", "forms", "leaders", "options", "rivals", "table"}
FILES = [m.name for m in pkgutil.walk_packages(topocomm.algorithms.__path__, "topocomm.algorithms.")]


@pytest.mark.parametrize("module", FILES)
def test_every_algorithm_file_has_all_fields_in_its_header(module):
    text = importlib.import_module(module).__doc__ or ""
    found = [f for f in FIELDS if any(line.strip().startswith(f"{f} ") for line in text.splitlines())]
    assert found == ([] if module.rpartition(".")[2] in NO_ALGORITHMS else list(FIELDS))
