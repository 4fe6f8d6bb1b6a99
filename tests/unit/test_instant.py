"""The closed forms: there is one for every candidate, and each agrees with the simulation of its messages."""

import pytest

from topocomm.algorithms import TABLE, transfers
from topocomm.choose.modelled import LIBRARY, ORDERED
from topocomm.model import Level, Machine, Network, default_machine, schedule_time
from topocomm.model.instant import Instant
from topocomm.model.instant.forms import FORMS
from topocomm.model.instant.nests import SAMPLED
from topocomm.topology import Topology, reorder_ranks

REGULAR = Topology(("group", "node"), [(i // 8, i // 4) for i in range(16)])
PLACEMENTS = {
    "block": REGULAR,
    "random": reorder_ranks(REGULAR, "random:3"),
    "unequal": Topology(("group",), [("a",)] * 5 + [("b",)] * 3),
}
WITHIN = {"block": 0.1, "random": 0.1, "unequal": 0.4}
LOOSE = {"k_trees": 0.6, "two_trees": 0.25, "textbook_bruck": 0.35, "textbook_dissemination": 0.15,
         "prefix_doubling": 0.35, "textbook_prefix_doubling": 0.6}  # fmt: skip
"""By how much forms may differ from the simulation: those of trees in segments and of rounds out of step more, and
those of shifts that do not go around a circle."""


def names(collective, topology):
    for name, entry in TABLE[collective].items():
        if entry.can_run(topology.size) and (not entry.baseline or name in LIBRARY[collective]):
            yield name


def test_every_candidate_has_a_form():
    for collective, entries in TABLE.items():
        wanted = {n for n, e in entries.items() if not e.baseline or (e.in_order and collective in ORDERED)}
        assert wanted | set(LIBRARY[collective]) <= {name for c, name in FORMS if c == collective}


@pytest.mark.parametrize("place", PLACEMENTS)
@pytest.mark.parametrize("collective", TABLE)
def test_forms_agree_with_the_simulation(collective, place):
    topology = PLACEMENTS[place]
    network = Network(default_machine(topology), topology)
    forms = Instant(network)
    for name in names(collective, topology):
        listed = transfers(collective, name, topology)
        for nbytes in (0,) if collective == "barrier" else (1 << 10, 1 << 22):
            simulated = schedule_time(listed, network, nbytes, window=0)
            found = forms.seconds(collective, name, nbytes, network.overhead, 0.0)
            within = max(WITHIN[place], LOOSE.get(name, 0.0))
            assert found == pytest.approx(simulated, rel=within), (name, nbytes)


def test_what_an_engine_adds_counts_per_message():
    network = Network(default_machine(REGULAR), REGULAR)
    forms = Instant(network)
    plain, more, combining = (
        forms.seconds("allreduce", "textbook_recursive_doubling", 8, network.overhead + o, c)
        for o, c in ((0.0, 0.0), (1e-6, 0.0), (0.0, 1e-6))
    )
    assert more - plain == pytest.approx(4e-6)
    assert combining - plain == pytest.approx(4e-6)


def test_slower_outer_links_cost_what_crosses_them():
    def seconds(speed):
        machine = Machine("levels", (Level("group", speed, speed, 0.0), Level("node", 1e12, 1e12, 0.0)))
        return Instant(Network(machine, REGULAR)).seconds("allreduce", "rabenseifner", 1e9, 0.0, 0.0)

    slow, slower = seconds(1e6), seconds(5e5)
    assert slower == pytest.approx(2 * slow, rel=0.01)
    assert slow == pytest.approx(1e9 / 1e6, rel=0.01)  # half the vector out, and half of it back


def test_a_sample_of_many_ranks_stands_for_all():
    topology = Topology(("group", "node"), [(i // 128, i // 8) for i in range(2 * SAMPLED)])
    network = Network(default_machine(topology), topology)
    for name, nbytes in (("rabenseifner", 1 << 24), ("rabenseifner", 1 << 10), ("ring", 1 << 24)):
        simulated = schedule_time(transfers("allreduce", name, topology), network, nbytes)
        assert Instant(network).seconds("allreduce", name, nbytes, network.overhead, 0.0) == pytest.approx(
            simulated, rel=0.05
        )


def test_patterns_of_a_level_follow_its_links():
    """Overheads that are long want few messages; many bytes want none to cross the outer links twice."""
    forms = Instant(Network(default_machine(REGULAR), REGULAR))
    assert forms.patterns("allreduce", 8, 1e-4, 0.0, 1) == ["levels=xxx"]
    assert not forms.patterns("allreduce", 1 << 26, 1e-9, 0.0, 1)[0].startswith("levels=xx")
    assert [name.count("x") for name in forms.patterns("reduce_scatter", 1 << 20, 1e-6, 0.0)] == [0, 0]
