"""The cheap count of traffic between groups is that of the schedules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.studies import job_placements
from bench.studies.group_traffic import ALGORITHMS, COLLECTIVES, least_busiest, traffic
from topocomm.algorithms import make_schedule
from topocomm.topology import Topology

NAMES = {
    "direct": ("direct",) * 3,
    "halving or circulant": ("recursive_doubling", "recursive_halving", "rabenseifner"),
    "near-first Rabenseifner": ("recursive_doubling", "recursive_halving", "rabenseifner"),
    "Bine": ("textbook_bine",) * 3,
    "far-first halving": (None, "textbook_recursive_halving", None),
}
groups = st.lists(st.integers(0, 4), min_size=2, max_size=26).map(lambda g: Topology(("group",), [[x] for x in g]))


def from_schedule(collective, name, topology, aware):
    place = topology.places[:, 0]
    schedule = make_schedule(collective, name, topology if aware else Topology.flat(topology.size))
    out = np.zeros((place.max() + 1, place.max() + 1), np.int64)
    for r in range(schedule.size):
        for rnd in schedule.part(r).rounds:
            for s in rnd.sends:
                out[place[r], place[s.peer]] += len(s.slots)
    np.fill_diagonal(out, 0)
    return out, schedule.nslots


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("collective", COLLECTIVES)
@settings(max_examples=25, deadline=None)
@given(topology=groups)
def test_as_the_schedules(collective, algorithm, topology):
    name = NAMES[algorithm][COLLECTIVES.index(collective)]
    if name is None:
        return
    blocks, vector = traffic(collective, algorithm, topology.places[:, 0])
    expected, slots = from_schedule(collective, name, topology, algorithm in list(ALGORITHMS)[:2])
    assert vector == slots
    if algorithm == "Bine" and collective == "allreduce" and topology.size % 2:
        return  # the schedule hands one block over twice
    assert (blocks == expected).all()


@given(groups)
def test_nothing_is_below_the_least(topology):
    place = topology.places[:, 0]
    if place.max() > 0:
        for collective in COLLECTIVES:
            for algorithm in ALGORITHMS:
                blocks, vector = traffic(collective, algorithm, place)
                assert blocks.max() / vector >= least_busiest(collective, place) - 1e-12


def test_job_lists_fit_the_machines():
    jobs = list(job_placements.jobs())
    assert [sum(machine == name for machine, _ in jobs) for name in ("leonardo", "lumi")] == [267, 396]
    assert all(topology.places.max() > 0 for _, topology in jobs)


def test_topology_aware_is_the_bound_on_every_seventh_job():
    for _, topology in list(job_placements.jobs())[::7]:
        for collective in COLLECTIVES:
            for algorithm in job_placements.AWARE:
                assert job_placements.measures(collective, algorithm, topology)[0] == 1
            assert job_placements.measures(collective, "direct", topology)[2] < 1.04
