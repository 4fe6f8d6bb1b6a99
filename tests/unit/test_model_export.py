"""What is written for SimGrid and LogGOPSim: every message once, rounds in order, links as in the model."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from topocomm.algorithms.table import make_schedule
from topocomm.errors import TopologyError
from topocomm.model import Network, default_machine, list_transfers, machine
from topocomm.model.export import goal, simgrid_options, simgrid_platform, simgrid_trace, write_goal, write_simgrid
from topocomm.topology import Topology, dragonfly, fat_tree, groups_of, torus

CASES = [
    ("allreduce", "rabenseifner"),
    ("alltoall", "bruck"),
    ("bcast", "scatter_allgather"),
    ("barrier", "dissemination"),
]
PLACES = groups_of([3, 1, 4])


def expected(schedule, nbytes):
    t = list_transfers(schedule)
    sizes = [round(b * nbytes / t.vector) if t.vector else 0 for b in t.blocks.tolist()]
    return sorted(zip(t.source.tolist(), t.target.tolist(), sizes, strict=True))


@pytest.mark.parametrize(("collective", "name"), CASES)
def test_traces_hold_every_message_at_both_ends(collective, name):
    schedule = make_schedule(collective, name, PLACES)
    sends, recvs = [], []
    for rank in range(8):
        waiting = 0
        lines = [line.split() for line in simgrid_trace(schedule, rank, 800).splitlines()]
        assert (lines[0], lines[-1]) == ([str(rank), "init"], [str(rank), "finalize"])
        for who, what, *rest in lines[1:-1]:
            assert who == str(rank)
            if what == "waitall":
                assert int(rest[0]) == waiting
                waiting = 0
                continue
            peer, _, size = map(int, rest)
            waiting += 1
            if what == "isend":
                sends.append((rank, peer, size))
            else:
                assert what == "irecv"
                recvs.append((peer, rank, size))
        assert waiting == 0
    assert sorted(sends) == sorted(recvs) == expected(schedule, 800)


@pytest.mark.parametrize(("collective", "name"), CASES)
def test_goal_holds_every_message_and_only_waits_for_what_is_before(collective, name):
    schedule = make_schedule(collective, name, PLACES)
    lines = list(goal(schedule, 800))
    assert lines[0] == "num_ranks 8"
    sends, rank, known, waited = [], -1, set(), set()
    for line in lines[1:]:
        if line.startswith("rank"):
            rank, known, waited = int(line.split()[1]), set(), set()
        elif "requires" in line:
            after, before = re.fullmatch(r"l(\d+) requires l(\d+)", line).groups()
            assert int(before) < int(after)
            assert {before, after} <= known
            waited.add(before)
        elif line == "}":
            assert {int(label) for label in known - waited} <= {len(known)}  # only the end of the last round
        else:
            label, what = re.fullmatch(r"l(\d+): (.*)", line).groups()
            assert label not in known
            known.add(label)
            if what.startswith("send"):
                size, peer = re.fullmatch(r"send (\d+)b to (\d+) tag 0", what).groups()
                sends.append((rank, int(peer), int(size)))
    assert sorted(sends) == expected(schedule, 800)


@pytest.mark.parametrize(
    ("described", "topology"),
    [
        (machine.fat_tree(2, 2), fat_tree(2, 2, 2)),
        (machine.dragonfly(), dragonfly(3, 2, 2)),
        (machine.torus((3, 3)), torus((3, 3))),
    ],
)
def test_the_platform_joins_every_pair_by_links_of_the_model(described, topology):
    network = Network(described, topology)
    root = ElementTree.fromstring(simgrid_platform(network).split("\n", 2)[2])
    speed = {link.get("id"): float(link.get("bandwidth").removesuffix("Bps")) for link in root.iter("link")}
    routes = {(r.get("src"), r.get("dst")): [c.get("id") for c in r] for r in root.iter("route")}
    assert len(routes) == topology.size * (topology.size - 1)
    assert {x for row in routes.values() for x in row} == set(speed)
    names = {network.link_name(x): network.capacity[x] for x in range(network.none)}
    assert all(names[name] == value for name, value in speed.items())


def test_files_are_written(tmp_path):
    schedule = make_schedule("allgather", "ring", PLACES)
    network = Network(default_machine(PLACES), PLACES)
    listing = write_simgrid(schedule, 4096, tmp_path / "x", network)
    assert [Path(path).read_text() for path in listing.read_text().split()] == [
        simgrid_trace(schedule, r, 4096) for r in range(8)
    ]
    assert (tmp_path / "x" / "hosts.txt").read_text().split() == [f"r{r}" for r in range(8)]
    assert (tmp_path / "x" / "platform.xml").read_text() == simgrid_platform(network)
    write_goal(schedule, 4096, tmp_path / "x.goal")
    assert (tmp_path / "x.goal").read_text().splitlines() == list(goal(schedule, 4096))
    assert any(option.startswith("smpi/ois:0:5e-07") for option in simgrid_options(network))


def test_a_platform_of_too_many_routes_is_refused():
    many = Topology.flat(1025)
    with pytest.raises(TopologyError, match="at most 1024"):
        simgrid_platform(Network(default_machine(many), many))
