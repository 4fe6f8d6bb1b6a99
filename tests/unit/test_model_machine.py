"""Machines, their files and their networks."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from places import topologies

from topocomm.errors import TopologyError
from topocomm.model import Level, Network, default_machine, dumps_machine, machine, machine_files, parse_machine
from topocomm.topology import Topology, dragonfly, fat_tree, groups_of, reorder_ranks, torus

GOOD = {
    "format": "topocomm-machine",
    "version": 1,
    "kind": "levels",
    "levels": [{"name": "group", "up": 5e10, "down": 4e10, "latency": 1e-6, "links": 2}, {"name": "node", "up": 1e10}],
    "rank": {"up": 5e9},
    "overhead": 1e-6,
    "eager": 2048,
}
MACHINES = {
    "fat_tree": (machine.fat_tree(3, 4, oversubscription=2), fat_tree(2, 3, 4, 2)),
    "dragonfly": (machine.dragonfly(), dragonfly(3, 4, 2, 2)),
    "dragonfly+": (machine.dragonfly(spines=3), dragonfly(4, 2, 3)),
    "torus": (machine.torus((3, 4, 2)), torus((3, 4, 2), 2)),
    "groups": (machine.dragonfly(), groups_of([3, 1, 5])),
    "no levels": (default_machine(Topology.flat(5)), Topology.flat(5)),
}


def schema():
    with open(machine_files.__file__.replace("machine_files.py", "machine.schema.json"), encoding="utf-8") as file:
        return Draft202012Validator(json.load(file))


def test_a_machine_file_says_what_it_says():
    m = parse_machine(json.dumps(GOOD))
    assert [level.name for level in m.levels] == ["group", "node"]
    assert m.levels[0] == Level("group", 5e10, 4e10, 1e-6, 2)
    assert m.levels[1].down == m.levels[1].up == 1e10
    assert (m.rank.up, m.overhead, m.eager) == (5e9, 1e-6, 2048)
    unsaid = parse_machine(json.dumps({k: v for k, v in GOOD.items() if k != "eager"}))
    assert unsaid.eager == machine.EAGER == schema().schema["properties"]["eager"]["default"]


@pytest.mark.parametrize("name", MACHINES)
def test_machines_survive_their_files(name):
    described = MACHINES[name][0]
    text = dumps_machine(described)
    again = parse_machine(text)
    for field in ("kind", "levels", "dims", "overhead", "eager"):
        assert getattr(again, field) == getattr(described, field)
    assert schema().is_valid(json.loads(text))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "x"}, "'format'"),
        ({"version": True}, "'version'"),
        ({"kind": "ring"}, "unknown kind"),
        ({"levels": {}}, "'levels'"),
        ({"levels": [3]}, "must be an object"),
        ({"levels": [{"name": "group"}]}, "'up'"),
        ({"levels": [{"name": "group", "up": 0}]}, "positive"),
        ({"levels": [{"name": "group", "up": "fast"}]}, "number"),
        ({"levels": [{"name": "group", "up": 1, "speed": 2}]}, "unknown keys"),
        ({"levels": [{"name": "group", "up": 1, "latency": -1}]}, "latency"),
        ({"levels": [{"name": "group", "up": 1, "links": 1.5}]}, "'links'"),
        ({"levels": [{"name": "a", "up": 1}, {"name": "a", "up": 1}]}, "twice"),
        ({"kind": "torus"}, "'dims'"),
        ({"dims": [2]}, "'dims'"),
        ({"kind": "torus", "dims": [2, 0]}, "dims"),
        ({"kind": "torus", "dims": [2, 2, 2]}, "dims"),
        ({"kind": "dragonfly", "levels": []}, "at least one level"),
        ({"overhead": -1}, "overhead"),
        ({"eager": -1}, "eager must be 0 .* found -1"),
        ({"eager": "8K"}, "'eager' must be a number"),
        ({"surprise": 1}, "unknown keys"),
    ],
)
def test_what_is_wrong_with_a_machine_is_said(change, says):
    with pytest.raises(TopologyError, match=says) as found:
        parse_machine(json.dumps({**GOOD, **change}), "m.json")
    assert str(found.value).startswith("m.json")


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_anything_else_is_refused(doc):
    with pytest.raises(TopologyError):
        parse_machine(json.dumps(doc))


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data):
    text = json.dumps(GOOD)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 4)) :]
    try:
        parse_machine(damaged)
    except TopologyError:
        return
    assert schema().is_valid(json.loads(damaged))


@pytest.mark.parametrize("name", MACHINES)
def test_routes_use_links_of_the_machine(name):
    described, topology = MACHINES[name]
    network = Network(described, topology)
    pairs = [(a, b) for a in range(topology.size) for b in range(topology.size) if a != b]
    source, target = np.array(pairs).T
    routes = network.routes(source, target)
    assert routes.shape[0] == len(pairs)
    assert routes.min() >= 0
    assert routes.max() <= network.none
    assert (network.capacity[routes].min(axis=1) < np.inf).all()
    for row in routes:
        used = row[row < network.none]
        assert len(set(used.tolist())) == len(used)


def test_a_torus_goes_the_short_way():
    network = Network(machine.torus((6,)), torus((6,)))
    routes = network.routes(np.array([0, 0, 0, 5]), np.array([1, 3, 5, 0]))
    hops = [
        [network.link_name(x) for x in row if x < network.none and "rank" not in network.link_name(x)] for row in routes
    ]
    assert hops == [["node + 0"], ["node + 0", "node + 1", "node + 2"], ["node - 0"], ["node + 5"]]


def test_parallel_links_are_picked_by_destination():
    network = Network(machine.fat_tree(2, 2), fat_tree(2, 2, 2))
    routes = network.routes(np.zeros(2, np.int64), np.array([6, 7]))
    ups = [{network.link_name(x) for x in row if network.link_name(x).startswith("switch up")} for row in routes]
    assert ups == [{"switch up 0"}, {"switch up 1"}]


def test_routes_do_not_depend_on_the_order_of_the_ranks():
    for described, places in MACHINES.values():
        topology = reorder_ranks(places, "random:3")
        where = np.random.default_rng(3).permutation(places.size)
        pairs = np.indices((places.size, places.size)).reshape(2, -1)
        pairs = pairs[:, pairs[0] != pairs[1]]
        ours, theirs = Network(described, topology), Network(described, places)
        routes = ours.routes(*pairs), theirs.routes(*where[pairs])
        first = theirs.none - 2 * places.size  # the links of the ranks themselves, which go by the rank
        links = [np.sort(np.where(r < first, r, theirs.none), axis=1) for r in routes]
        width = min(links[0].shape[1], links[1].shape[1])
        assert (links[0][:, :width] == links[1][:, :width]).all()


def test_a_dragonfly_takes_at_most_one_global_link():
    network = Network(machine.dragonfly(), dragonfly(3, 2, 2))
    row = network.routes(np.array([0]), np.array([11]))[0]
    kinds = [network.link_name(x).rsplit(" ", 1)[0] for x in row if x < network.none]
    assert kinds.count("group pair") == 1
    assert kinds.count("router pair") <= 2


@given(topologies())
def test_something_is_assumed_for_every_placement(topology):
    network = Network(default_machine(topology), topology)
    assert {cut.name for cut in network.cuts} == {*topology.levels, "rank"}


def test_a_machine_without_a_level_of_the_placement_is_refused():
    with pytest.raises(TopologyError, match="'group'"):
        Network(machine.fat_tree(2, 2), dragonfly(2, 2, 2))


def test_a_placement_too_large_for_its_torus_is_refused():
    with pytest.raises(TopologyError, match="torus has 3"):
        Network(machine.torus((3, 2)), torus((4, 2)))
