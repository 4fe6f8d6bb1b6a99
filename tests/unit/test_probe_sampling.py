"""Probing many ends: a sample meets, the others join by leaders. On a stand-in for messages; MPI is not started."""

from __future__ import annotations

import mpi4py
import numpy as np
import pytest

from topocomm import Topology
from topocomm.topology import groups_of, reorder_ranks

started = mpi4py.rc.initialize
mpi4py.rc.initialize = False
from topocomm.topology.live import probe  # noqa: E402

mpi4py.rc.initialize = started


class Alone:
    """A communicator of which every rank thinks the same."""

    rank = 0

    def __init__(self, size):
        self.size = size

    def Get_size(self):
        return self.size

    def Get_rank(self):
        return self.rank

    def Bcast(self, buffer, root):
        assert root == 0

    def Allgather(self, mine, everything):
        everything[:] = mine

    def Allgatherv(self, mine, everything):
        everything[0][:] = np.tile(mine, self.size)

    def allreduce(self, value, op):
        return value


class Simulated:
    """Meetings that take as long as a topology says."""

    def __init__(self, topology):
        self.inside = np.equal.outer(topology.places[:, 0], topology.places[:, 0])
        self.nbytes, self.met, self.rng = 16384, 0, np.random.default_rng(0)

    def resize(self, nbytes):
        self.nbytes = nbytes

    def meet(self, kind, rounds, progress=None):
        return self.matrix(kind, rounds)[0]

    def distances(self, kind, rounds, columns, progress=None):
        if progress is not None:
            progress(1.0)
        return self.matrix(kind, rounds)[:, columns]

    def matrix(self, kind, rounds):
        found = np.full(self.inside.shape, np.nan)
        for row in rounds:
            busy = np.flatnonzero(row >= 0)
            found[busy, row[busy]] = 1.0
        self.met += int(np.isfinite(found).sum()) // 2
        noise = np.exp(np.triu(self.rng.normal(0, 0.1, found.shape), 1))
        far = 2.5 if kind == "exchange" else 1.0
        return found * noise * noise.T * np.where(self.inside, 0.02, 0.02 * far) / (1 if kind == "exchange" else 1000)


def probed(topology, monkeypatch, most):
    monkeypatch.setattr(probe, "MOST_SAMPLED", most)
    monkeypatch.setattr(probe, "Meeting", lambda comm, nbytes: Simulated(topology))
    told: list[float] = []
    tournaments = probe._Tournaments(Alone(topology.size), 1e3, None, told.append)
    rows, found, effort = tournaments.run()
    assert told == sorted(told)
    assert told[-1] == 1
    return rows, found, effort, tournaments.meeting.met


@pytest.mark.parametrize("most", [200, 24])
def test_all_are_placed_whether_sampled_or_not(monkeypatch, most):
    topology = reorder_ranks(groups_of([20, 20, 12, 8]), "random:1")
    rows, found, effort, met = probed(topology, monkeypatch, most)
    assert Topology(("group",), rows) == topology
    assert (effort.ends, effort.sampled, effort.repetitions) == (60, min(60, most), 16)
    assert [level.kind for level in found.levels] == ["exchange"]
    assert met < (70_000 if most == 200 else 16_000)


def test_a_place_without_a_sampled_end_stands_alone(monkeypatch):
    sizes = [24, 24, 2]
    for seed in range(20):
        topology = reorder_ranks(groups_of(sizes), f"random:{seed}")
        small = np.flatnonzero(topology.places[:, 0] == topology.counts("group").argmin())
        rows, _, effort, _ = probed(topology, monkeypatch, 20)
        sampled = np.sort(np.random.default_rng(50).permutation(50)[: effort.sampled])
        if not set(small) & set(sampled):
            break
    else:
        pytest.fail("every order sampled the small place")
    large = np.setdiff1d(np.arange(50), small)
    assert Topology(("group",), rows[large]) == topology.restrict(large)
    assert len(set(rows[small, 0].tolist())) == 2, "two that meet no leader nearby are not put together"
    assert not set(rows[small, 0].tolist()) & set(rows[large, 0].tolist())


def test_a_flat_machine_needs_no_leaders(monkeypatch):
    rows, found, effort, _ = probed(groups_of([40]), monkeypatch, 20)
    assert rows.shape == (40, 0)
    assert not found.levels
    assert effort.sampled == 20


def test_pings_that_disturb_each_other_are_fewer_at_once(monkeypatch):
    class Disturbed(Simulated):
        def meet(self, kind, rounds, progress=None):
            crowd = max(int((row >= 0).sum()) // 2 for row in rounds)
            return super().meet(kind, rounds) * (1 if kind != "mean" or crowd <= 3 else crowd)

    topology = groups_of([8, 8])
    monkeypatch.setattr(probe, "Meeting", lambda comm, nbytes: Disturbed(topology))
    tournaments = probe._Tournaments(Alone(16), 1e3, None, None)
    tournaments.run()
    assert tournaments.undisturbed == 2
