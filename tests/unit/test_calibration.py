"""From measured figures to a machine and back; which places and pairs are measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topocomm.model import Level, Machine, dumps_machine, parse_machine
from topocomm.model.calibration import LevelFigures, crossings, fit
from topocomm.topology import Topology, fat_tree, groups_of, reorder_ranks

UNEQUAL = Topology(("group", "node"), [["a", 0], ["b", 0], ["a", 1], ["b", 0], ["a", 0], ["c", 7]])


def test_the_largest_places_are_crossed_to_all_others_in_turn():
    first, second, third = crossings(UNEQUAL, "group", 5)
    assert first.inside == (0, 2, 4)
    assert first.outside == (1, 5, 3)
    assert first.pairs() == [(0, 1), (2, 5), (4, 3)]
    assert second.inside == (1, 3)
    assert third.pairs() == [(5, 0)]
    assert len(crossings(UNEQUAL, "group", 2)) == 2


def test_an_inner_level_is_crossed_inside_one_outer_place():
    only = crossings(UNEQUAL, "node", 5)
    assert [(c.inside, c.outside) for c in only] == [((0, 4), (2,)), ((2,), (0, 4))]
    assert crossings(groups_of([3]), "group", 5) == []


@given(st.lists(st.floats(0, 1e-4), min_size=1, max_size=3), st.floats(0, 1e-5), st.floats(0, 1e-5))
def test_latencies_come_back(latencies, own, overhead):
    """What the model would measure on a machine gives that machine's latencies."""
    below = overhead + 2 * own
    figures, total = [], below
    for depth, latency in reversed(list(enumerate(latencies))):
        total += 2 * latency
        figures.insert(0, LevelFigures(f"l{depth}", 1e9, 1e9, 1e9, total, 1))
    machine, _ = fit(figures, 1e9, below, overhead)
    assert [level.latency for level in machine.levels] == pytest.approx(latencies, abs=1e-12)
    assert machine.rank.latency == pytest.approx(own, abs=1e-12)
    assert machine.overhead == overhead


def test_capacities_are_taken_as_measured():
    figures = [LevelFigures("rack", 5e6, 4.9e6, 4.8e6, 3e-5, 4), LevelFigures("node", 5e6, 4.8e6, 4.7e6, 2e-5, 1)]
    machine, remarks = fit(figures, 1e9, None, 1e-6)
    assert [(x.name, x.up, x.down, x.links) for x in machine.levels] == [
        ("rack", 4.9e6, 4.8e6, 1),
        ("node", 4.8e6, 4.7e6, 1),
    ]
    assert machine.rank == Level("rank", 1e9, 1e9, 0.0)
    assert remarks == {}
    again = parse_machine(dumps_machine(machine, "on a Sunday"))
    assert (again.levels, again.rank, again.overhead) == (machine.levels, machine.rank, machine.overhead)
    assert '"comment": "on a Sunday"' in dumps_machine(machine, "on a Sunday")


def test_one_pair_held_up_while_the_place_moves_more_means_several_links():
    node = LevelFigures("node", 12e9, 12e9, 12e9, 1e-6, 1)
    slow_links = LevelFigures("group", 3e9, 12e9, 12e9, 1e-6, 8)
    one_fat_link = LevelFigures("group", 12e9, 48e9, 48e9, 1e-6, 16)
    assert fit([slow_links, node], 20e9, None, 0)[0].levels[0] == Level("group", 3e9, 3e9, 0.0, 4)
    assert fit([one_fat_link, node], 20e9, None, 0)[0].levels[0] == Level("group", 48e9, 48e9, 0.0, 1)


def test_a_place_that_may_not_have_been_filled_says_so():
    figures = [LevelFigures("rack", 5e6, 19e6, 19e6, 3e-5, 4), LevelFigures("node", 5e6, 5e6, 5e6, 2e-5, 1)]
    assert fit(figures, 1e9, None, 0)[1] == {"rack": "at least: what is inside sent no more"}


def test_a_level_that_nothing_crosses_is_no_limit_and_says_so():
    figures = [LevelFigures("rack", ways=4), LevelFigures("node", 5e6, 5e6, 4e6, 2e-5, 1)]
    machine, remarks = fit(figures, 1e9, None, 0)
    assert machine.levels[0] == Level("rack", 20e6, 16e6, 0.0)
    assert remarks == {"rack": "not measured: only one place; taken as no limit"}


def test_noise_gives_no_negative_latency():
    figures = [LevelFigures("rack", 5e6, 5e6, 5e6, 1e-5, 1), LevelFigures("node", 5e6, 5e6, 5e6, 2e-5, 1)]
    machine, _ = fit(figures, 1e9, 3e-5, 4e-5)
    assert [x.latency for x in (*machine.levels, machine.rank)] == [0, 0, 0]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from(("given", "cyclic", "random:3")))
def test_pairs_part_at_their_level_and_no_sooner(pods, switches, nodes, order):
    topology = reorder_ranks(fat_tree(pods, switches, nodes, 2), order)
    for depth, level in enumerate(topology.levels):
        for crossing in crossings(topology, level, 3):
            for a, b in crossing.pairs():
                assert topology.shared_levels(a, b) == depth
            assert len(set(crossing.outside)) == len(crossing.outside)
            assert set(crossing.inside) == set(
                np.flatnonzero(topology.places[:, depth] == topology.places[crossing.inside[0], depth]).tolist()
            )


def test_a_flat_machine_is_its_ranks():
    machine, remarks = fit([], 6e9, 2e-6, 1e-6)
    assert machine == Machine("levels", (), Level("rank", 6e9, 6e9, (2e-6 - 1e-6) / 2), 1e-6, source="measured")
    assert remarks == {}
