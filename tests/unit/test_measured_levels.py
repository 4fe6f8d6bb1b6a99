"""Levels from distances: synthetic matrices with known levels, unequal places, noise; and nothing from nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import topologies

from topocomm import Topology, TopologyError
from topocomm.topology import fat_tree, groups_of, reorder_ranks
from topocomm.topology.files import parse_placement
from topocomm.topology.live.levels import Found, FoundLevel, find_levels, join, leaders_of, level_names
from topocomm.topology.live.measured import Effort, Measured, placement_of

ONE_LEVEL = [groups_of([4, 4, 4, 4]), groups_of([5, 3, 2]), groups_of([8, 8]), groups_of([2, 2]), groups_of([6, 1, 1])]


def distances(topology, repetitions=8, factor=2.7, sigma=0.1, tail=0.0, seed=0):
    """``factor`` times farther for every level not shared; log-normal noise, and a part ``tail`` of stragglers."""
    rng = np.random.default_rng(seed)
    size = (repetitions, topology.size, topology.size)
    shared = sum(np.equal.outer(column, column).astype(int) for column in topology.places.T)
    noise = np.exp(rng.normal(0, sigma, size)) * np.where(rng.random(size) < tail, 1 + rng.exponential(3, size), 1)
    upper = np.triu(1e-5 * factor ** (len(topology.levels) - shared) * noise, 1)
    return upper + upper.transpose(0, 2, 1)


def partition(labels):
    return np.unique(np.equal.outer(labels, labels), axis=0).tolist()


def expected(topology):
    """The partitions of a topology that part something and do not part everything, outermost first."""
    return [partition(places[topology.virtual]) for places in topology.nesting[1:-1]]


def found_in(found):
    return [partition(level.places) for level in found.levels]


@pytest.mark.parametrize("machine", ONE_LEVEL, ids=lambda t: "-".join(map(str, t.counts("group"))))
@pytest.mark.parametrize("seed", range(4))
def test_one_level_of_equal_and_unequal_places(machine, seed):
    machine = reorder_ranks(machine, f"random:{seed}")
    found = find_levels({"latency": distances(machine, seed=seed)})
    assert found_in(found) == expected(machine)
    assert found.confidence > 0.95
    assert found.levels[0].across / found.levels[0].inside == pytest.approx(2.7, rel=0.15)


@pytest.mark.parametrize("order", ["given", "cyclic", "random:2"])
@pytest.mark.parametrize("machine", [fat_tree(2, 3, 1, 4), fat_tree(3, 2, 2, 3)])
def test_two_and_three_levels(machine, order):
    machine = reorder_ranks(machine, order)
    found = find_levels({"latency": distances(machine, sigma=0.15)})
    assert found_in(found) == expected(machine)
    assert len(found.levels) == len(machine.nesting) - 2
    assert [level.across > level.inside for level in found.levels] == [True] * len(found.levels)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 32])
def test_equal_distances_are_flat(size):
    wrong = 0
    for seed in range(20):
        found = find_levels({"latency": distances(Topology.flat(size), sigma=0.3, seed=seed)})
        wrong += bool(found.levels)
    assert wrong == 0


def test_flat_is_less_sure_where_noise_would_hide_a_level():
    def confidence(sigma):
        return find_levels({"x": distances(Topology.flat(12), sigma=sigma)}).confidence

    assert find_levels({"x": distances(Topology.flat(2), sigma=1)}).confidence == 1
    assert confidence(0.02) == 1
    assert confidence(0.02) > confidence(0.2) > confidence(1) > 0
    both = {"x": distances(Topology.flat(12), sigma=0.02), "y": distances(Topology.flat(12), sigma=1)}
    assert find_levels(both).confidence == confidence(1)


def test_stragglers_alone_hardly_make_a_level():
    found = [find_levels({"x": distances(Topology.flat(12), sigma=0.3, tail=0.1, seed=seed)}) for seed in range(40)]
    assert sum(bool(f.levels) for f in found) <= 2


def test_noise_lowers_the_confidence_until_nothing_is_claimed():
    machine = groups_of([4, 4, 4])

    def mean(sigma, factor=1.6):
        found = [find_levels({"x": distances(machine, factor=factor, sigma=sigma, seed=seed)}) for seed in range(15)]
        right = [f for f in found if found_in(f) == expected(machine)]
        return len(right), np.mean([f.confidence for f in right]) if right else 0.0

    quiet, some, heavy = mean(0.05), mean(0.25), mean(1.0)
    assert quiet[0] == 15
    assert quiet[1] > 0.99
    assert 0.7 <= some[1] < quiet[1] - 0.05
    assert heavy[0] <= 2


def test_what_differs_too_little_is_no_level():
    close = distances(groups_of([4, 4]), factor=1.2, sigma=0.01)
    assert not find_levels({"x": close}).levels
    assert find_levels({"x": close}, {"x": 1.1}).levels
    assert not find_levels({"x": distances(groups_of([4, 4]), factor=1.4, sigma=0.01)}, {"x": 1.5}).levels


def test_a_pattern_that_does_not_come_back_is_no_level():
    machine = groups_of([4, 4])
    once = distances(machine, sigma=0.05)
    once[1::2] = distances(Topology.flat(8), repetitions=4, sigma=0.05)
    found = find_levels({"x": once})
    assert not found.levels


def test_levels_of_two_kinds_are_put_together():
    machine = fat_tree(2, 2, 1, 4)
    outer, inner = machine.upto("pod"), Topology(("switch",), machine.places[:, 1:2])
    found = find_levels({"latency": distances(outer), "exchange": distances(inner, seed=1)})
    assert found_in(found) == expected(machine)
    assert [level.kind for level in found.levels] == ["latency", "exchange"]
    assert found.confidence == min(level.confidence for level in found.levels)


def test_of_levels_that_cross_the_surer_stays():
    rows = Topology(("row",), [[i // 4] for i in range(16)])
    columns = Topology(("column",), [[i % 4] for i in range(16)])
    found = find_levels({"latency": distances(rows, sigma=0.4), "exchange": distances(columns, sigma=0.05)})
    assert find_levels({"latency": distances(rows, sigma=0.4)}).levels
    assert found_in(found) == expected(columns)
    assert found.dropped == ("4 places by latency cross those of a surer level",)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.ones((3, 3)), r"shape \(3, 3\)"),
        (np.ones((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.ones((1, 3, 3)), "at least 2 repetitions"),
        (np.zeros((2, 3, 3)), "distance 'x' of 0 and 1 in repetition 0 is 0; needs > 0"),
        (np.full((2, 3, 3), np.nan), "is nan"),
    ],
)
def test_malformed_distances_are_refused(matrix, reason):
    with pytest.raises(TopologyError, match=reason):
        find_levels({"x": matrix})
    with pytest.raises(TopologyError, match="of one n"):
        find_levels({"x": np.ones((2, 3, 3)), "y": np.ones((2, 4, 4))})


@settings(max_examples=60, deadline=None)
@given(topologies(min_ranks=2, max_ranks=20))
def test_without_noise_every_nesting_is_found(topology):
    found = find_levels({"x": distances(topology, repetitions=16, sigma=0)})
    assert found_in(found) == expected(topology)
    assert found.confidence == 1


@settings(max_examples=30, deadline=None)
@given(topologies(min_ranks=3, max_ranks=12), st.randoms(use_true_random=False), st.floats(1e-3, 1e3))
def test_order_of_ends_and_unit_do_not_matter(topology, random, unit):
    d = distances(topology, sigma=0.05)
    order = np.array(random.sample(range(topology.size), topology.size))
    found, other = find_levels({"x": d}), find_levels({"x": unit * d[:, order][:, :, order]})
    assert [partition(level.places[order]) for level in found.levels] == found_in(other)
    assert other.confidence == pytest.approx(found.confidence, abs=1e-6)


def test_others_join_their_leaders_place_or_stand_alone():
    outer = FoundLevel(np.array([0, 0, 0, 1, 1]), "latency", 1.0, 2.0, 4.0)
    inner = FoundLevel(np.array([0, 0, 1, 2, 2]), "exchange", 1.0, 1.0, 2.0)
    leaders = leaders_of(inner.places)
    assert leaders.tolist() == [0, 2, 3]
    to_leaders = {
        "latency": np.array([[2.0, 2.1, 4.0], [4.0, 4.0, 2.2], [2.0, 2.0, 4.0], [4.0, 4.0, 4.0]]),
        "exchange": np.array([[2.0, 1.0, 0.1], [0.1, 0.1, 1.1], [2.0, 2.0, 0.1], [1.0, 1.0, 1.0]]),
    }
    assert join([outer, inner], leaders, to_leaders).tolist() == [[0, 1], [1, 2], [0, -1], [-1, -1]]


def test_names_of_levels():
    assert [level_names(k) for k in range(4)] == [(), ("group",), ("group2", "group"), ("group3", "group2", "group")]


def test_placements_for_next_time():
    rows, ends, hosts = np.array([[0, 0], [1, 1]]), [0, 1, 0], ["a", "b", "a"]
    by_node = placement_of(rows, ends, hosts, by_node=True)
    assert by_node.nodes == {"a": ("0", "0"), "b": ("1", "1")}
    by_rank = placement_of(rows, ends, hosts, by_node=False)
    assert by_rank.ranks == (("0", "0"), ("1", "1"), ("0", "0"))
    for placement in (by_node, by_rank):
        level = FoundLevel(np.array([0, 1]), "latency", 0.9, 1e-6, 2e-3)
        found = Found((level, level), 0.9, ("something",))
        effort = Effort(2, 2, 8, 1, 65536, 1.0, {})
        measured = Measured(placement, placement.topology(hosts), 0.9, "hosts", "by name", found, effort)
        again = parse_placement(measured.dumps())
        assert (again.levels, again.ranks, again.nodes) == (placement.levels, placement.ranks, placement.nodes)
        assert "confidence 0.90" in measured.dumps()
        assert "group2: 2 places of 1, 1 hosts; latency 1 µs inside, 2 ms across" in measured.describe()
        assert "left out: something" in measured.describe()
