"""Direct exchange between places: correct for any placement, least bytes, and every pair of places alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topocomm import ScheduleError
from topocomm.algorithms import direct
from topocomm.algorithms.table import TABLE, make_schedule
from topocomm.model import list_messages
from topocomm.schedule.verify import verify
from topocomm.topology import Topology, groups_of, reorder_ranks

COLLECTIVES = ("allgather", "allreduce", "reduce_scatter")
placements = st.integers(1, 3).flatmap(
    lambda levels: st.lists(st.tuples(*[st.integers(0, 4)] * levels), min_size=1, max_size=24)
)


def between(schedule, topology):
    """Vectors sent from each outermost place to each other."""
    place = topology.places[:, 0]
    out = np.zeros((place.max() + 1, place.max() + 1))
    for r in range(schedule.size):
        for rnd in schedule.part(r).rounds:
            for s in rnd.sends:
                out[place[r], place[s.peer]] += len(s.slots) / schedule.nslots
    np.fill_diagonal(out, 0)
    return out


@settings(max_examples=40, deadline=None)
@given(placements, st.sampled_from(COLLECTIVES))
def test_any_placement(places, collective):
    topology = Topology([f"level{i}" for i in range(len(places[0]))], places)
    verify(make_schedule(collective, "direct", topology))


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize("way", ["local", "exchange", "direct"])
def test_ways_of_the_reordering(collective, way):
    if way in TABLE[collective]["direct"].ways:
        verify(make_schedule(collective, f"direct:{way}", reorder_ranks(groups_of([5, 1, 3, 7]), "random:1")))


@pytest.mark.parametrize("p", [1, 2, 3, 4, 7, 8, 16, 33])
@pytest.mark.parametrize("collective", COLLECTIVES)
def test_costs_of_the_table(collective, p):
    entry = TABLE[collective]["direct"]
    schedule = make_schedule(collective, "direct", Topology.flat(p))
    parts = [schedule.part(r) for r in range(p)]
    assert {len(part.rounds) for part in parts} == {entry.rounds(p)}
    sent = {sum(len(s.slots) for rnd in part.rounds for s in rnd.sends) for part in parts}
    assert sent == {entry.sent(p) * schedule.nslots}


@pytest.mark.parametrize("sizes", [[4, 4, 4, 4], [9, 1, 1, 5], [30, 3, 2, 2, 7], [1, 40, 13]])
@pytest.mark.parametrize("order", ["given", "cyclic", "random:5"])
def test_least_bytes_and_alike_on_all_pairs(sizes, order):
    topology = reorder_ranks(groups_of(sizes), order)
    places, p = len(sizes), sum(sizes)
    traffic = between(make_schedule("allreduce", "direct", topology), topology)
    assert traffic.sum() == pytest.approx(2 * (places - 1))
    assert traffic.max() <= 1.01 * 2 / places
    for collective in ("allgather", "reduce_scatter"):
        traffic = between(make_schedule(collective, "direct", topology), topology)
        assert traffic.sum() == pytest.approx(places - 1)
        least = (1 - min(sizes) / p) / (places - 1)
        assert traffic.max() <= 1.01 * least


def test_blocks_are_cut_only_where_places_differ():
    assert direct.pieces(np.array([8, 8, 8, 8])) == direct.pieces(np.array([3, 40])) == 1
    schedule = make_schedule("allgather", "direct", groups_of([5, 1, 3]))
    assert (schedule.pieces, schedule.nslots) == (57, 9 * 57)
    with pytest.raises(ScheduleError, match="needs 9 block sizes, got 8"):
        list_messages(schedule, [1] * 8)
    assert list_messages(schedule, [100] * 9).sent().sum() == list_messages(schedule).sent().sum() * 100 / 57


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_shares_are_exact_in_rows_and_close_in_loads(sizes):
    sizes = np.array(sizes)
    share = direct.shares(sizes)
    assert (share >= 0).all()
    assert (share.sum(1) == sizes).all()
    if len(sizes) > 2:
        load = direct.loads(share)
        assert load.sum() == (len(sizes) - 1) * sizes.sum()
        assert load.max() <= np.ceil((sizes.sum() - sizes.min()) / (len(sizes) - 1)) + 2
