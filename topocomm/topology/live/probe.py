"""Measured discovery: probe latency and bandwidth between ranks with MPI messages. Knows MPI, like discover.py.

Ends (one rank of each host) meet in tournaments: rounds of disjoint pairs, n - 1 rounds until every pair has met, so
that the number of rounds grows with the number of hosts and not with the number of pairs. There are two kinds.

Latency: each pair plays ping-pong. As many pairs at once as do not slow each other down, which is tried out first.

Exchange: *all pairs exchange a long message at the same moment*, and what they share slows them down. A pair inside a
rack has its links for itself; pairs between racks share the uplinks with all others that cross in this round, whoever
they are. So uplinks show even where they are as fast as the link of a host, and a single stream notices nothing.
(Contention as the signal: compare G. Shao, F. Berman, R. Wolski, "Using effective network views to promote
distributed application performance", PDPTA 1999.)

Every repetition draws other rounds. From the distances, levels.py finds the levels and says how sure they are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm import objects
from topocomm.arrays import IntArray
from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.live.discover import placed
from topocomm.topology.live.levels import FloatArray, Found, find_levels, join, leaders_of
from topocomm.topology.live.measured import Effort, Measured, placement_of
from topocomm.topology.live.meeting import KINDS, Meeting, OnProgress, quiet_barrier
from topocomm.topology.live.pairing import against_leaders, rounds_of_tournament, tournament

__all__ = ["SECONDS", "measure"]

SECONDS = 10.0
"""How long probing may take, if nobody says otherwise."""
REPETITIONS = 16
MOST_SAMPLED, MOST_ENDS = 512, 8192
"""More ends than that are not all probed against each other; more are not probed at all."""

RATIOS = {"latency": 1.25, "exchange": 1.5}
"""How much farther it must be across a level: exchanges vary by a third with what TCP does, whoever meets."""
_DISTURBED = 1.5
"""Pings so many times longer than alone say that too many pairs meet at once."""
_CHECKS = 8
"""Repetitions in which ranks of one host meet."""
_FIRST_BYTES, _MOST_BYTES, _ENOUGH_SECONDS = 16 << 10, 4 << 20, 0.02
_TRIAL, _TRIED = 2**31, 8
"""Seed of the rounds that are only tried; pairs looked at in them."""


def measure(
    comm: MPI.Intracomm, *, seconds: float = SECONDS, by_name: bool = True, progress: OnProgress | None = None
) -> Measured:
    """Find out by messages how near the ranks of ``comm`` are. Collective; the result is the same on every rank.

    Parameters
    ----------
    seconds
        About how long it may take. With little time fewer repetitions are made, and of many hosts only some are
        probed against each other; the others are placed by probing one leader of every place found.
    by_name
        Ranks that share memory and a host name are one end, unless the measurement contradicts: then, and if this is
        False, every rank is an end. Where all ranks are on one host, every rank is an end, too.
    progress
        Told on rank 0 how far it is.

    Raises TopologyError on every rank if ``seconds`` is not positive, or there are too many ends.
    """
    seconds = float(objects.bcast(comm, seconds))
    if not 0 < seconds < float("inf"):
        raise TopologyError(f"the time for probing must be a positive number of seconds, found {seconds:g}")
    began = time.perf_counter()
    private = comm.Dup()
    try:
        outcome = _probe_hosts(private, seconds, by_name, progress)
    finally:
        private.Free()
    effort = objects.bcast(comm, replace(outcome.effort, seconds=time.perf_counter() - began))
    topology = placed(comm, outcome.placement)
    ends = "hosts" if outcome.by_host else "ranks"
    return Measured(outcome.placement, topology, outcome.found.confidence, ends, outcome.names, outcome.found, effort)


@dataclass(frozen=True)
class _Outcome:
    placement: Placement
    by_host: bool
    names: str
    found: Found
    effort: Effort


def _probe_hosts(comm: MPI.Intracomm, seconds: float, by_name: bool, progress: OnProgress | None) -> _Outcome:
    """Probe between hosts, or between ranks where host names are of no use. Collective."""
    hosts = _hosts(comm)
    names, ranks = [name for name, _ in hosts], list(range(comm.size))
    if not by_name:
        return _outcome(comm, ranks, names, False, "host names ignored", seconds, progress)
    if len(set(hosts)) == 1:
        return _outcome(comm, ranks, names, False, "all ranks are on one host", seconds, progress)
    ends = _numbered(hosts)
    unique = len(set(names)) == len(set(hosts))
    by_host = _outcome(comm, ends, names, unique, "one rank on every host", seconds, progress)
    if len(set(ends)) == len(ends):
        return replace(by_host, by_host=True)
    if _near(comm, ends, by_host):
        return replace(by_host, by_host=True, names="ranks of one host put together by its name, as measured")
    why = "host names contradict the measurement (ranks of one host are far apart) and are ignored"
    return _outcome(comm, ranks, names, False, why, seconds, progress)


def _hosts(comm: MPI.Intracomm) -> list[tuple[str, int]]:
    """Host name and lowest rank it shares memory with, for every rank."""
    shared = comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)
    try:
        leader = objects.bcast(shared, comm.rank)
    finally:
        shared.Free()
    return objects.allgather(comm, (MPI.Get_processor_name(), leader))


def _numbered(keys: Sequence[Hashable]) -> list[int]:
    """Equal keys numbered alike, in order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _outcome(
    comm: MPI.Intracomm,
    ends: Sequence[int],
    names: Sequence[str],
    by_node: bool,
    why: str,
    seconds: float,
    progress: OnProgress | None,
) -> _Outcome:
    """Probe between the lowest ranks of all ends; the other ranks sleep. Collective; raises alike on every rank."""
    if max(ends) >= MOST_ENDS:
        raise TopologyError(f"{max(ends) + 1} ends are too many to probe, at most {MOST_ENDS}; describe the machine")
    first = [ends.index(end) for end in range(max(ends) + 1)]
    some: Any = comm.Split(0 if comm.rank in first else MPI.UNDEFINED, comm.rank)
    at_once = _pairs_at_once(comm, ends)
    answer: tuple[IntArray, Found, Effort] | TopologyError | None = None
    if some != MPI.COMM_NULL:
        try:
            answer = _Tournaments(some, seconds, at_once, progress).run()
        except TopologyError as error:  # of the pure part, on rank 0
            answer = error
        finally:
            some.Free()
    quiet_barrier(comm)
    answer = objects.bcast(comm, answer)
    if isinstance(answer, TopologyError):
        raise answer
    assert answer is not None
    rows, found, effort = answer
    return _Outcome(placement_of(rows, ends, names, by_node), False, why, found, effort)


def _pairs_at_once(comm: MPI.Intracomm, ends: Sequence[int]) -> int | None:
    """How many pairs may meet at once: where several ends may share cores, as many as all cores serve."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    hosts = len(set(_hosts(comm)))
    least = min(objects.allgather(comm, cores))
    return None if max(ends) + 1 <= hosts else hosts * max(1, least // 2)


def _near(comm: MPI.Intracomm, ends: Sequence[int], between: _Outcome) -> bool:
    """Whether ranks of one host are, in latency or under load, no farther apart than hosts are. Collective.

    The first two ranks of every host meet, all hosts at once.
    """
    members = [[rank for rank, other in enumerate(ends) if other == end] for end in range(max(ends) + 1)]
    pairs = [ranks[:2] for ranks in members if len(ranks) > 1]
    mine = [rank for pair in pairs for rank in pair]
    some: Any = comm.Split(0 if comm.rank in mine else MPI.UNDEFINED, comm.rank)
    near = False
    if some != MPI.COMM_NULL:
        partners = np.empty((1, len(mine)), np.int64)
        order = sorted(mine)
        for a, b in pairs:
            partners[0, order.index(a)], partners[0, order.index(b)] = order.index(b), order.index(a)
        meeting = Meeting(some, between.effort.message)
        medians = {}
        for kind in KINDS:
            taken = [float(np.nanmin(meeting.meet(kind, partners))) for _ in range(_CHECKS)]
            medians[kind] = float(np.median(some.allgather(float(np.median(taken)))))
        near = any(medians[kind] <= between.effort.medians[kind] for kind in KINDS)
        some.Free()
    quiet_barrier(comm)
    return bool(objects.bcast(comm, near, root=min(mine)))


class _Tournaments:
    """All ends against all, or a sample of them against each other and the rest against leaders."""

    def __init__(self, comm: MPI.Intracomm, seconds: float, at_once: int | None, progress: OnProgress | None) -> None:
        self.comm, self.at_once = comm, at_once
        self.deadline = time.perf_counter() + seconds
        self.seconds = seconds
        self.progress = progress if comm.rank == 0 else None
        self.meeting = Meeting(comm, _FIRST_BYTES)
        self.undisturbed = 1

    def run(self) -> tuple[IntArray, Found, Effort]:
        """A row of places (outermost first) for every end, what was found, and the cost but for the seconds."""
        n = self.comm.size
        if n == 1:
            return np.empty((1, 0), np.int64), Found((), 1.0), Effort(1, 1, 0, 0, 0, 0.0, {})
        self._size_messages()
        self.undisturbed = self._undisturbed()
        sampled = self._sample()
        repeated, rounds = self._repeat(sampled)
        distances = {kind: np.array([d[kind][sampled] for d in repeated]) for kind in KINDS}
        # one end judges for all: last bits of the figures may differ between processors
        found = objects.bcast(self.comm, find_levels(distances, RATIOS) if self.comm.rank == 0 else None)
        assert found is not None
        rows = np.full((n, len(found.levels)), -1, np.int64)
        for depth, level in enumerate(found.levels):
            rows[sampled, depth] = level.places
        if len(sampled) < n and found.levels:
            self._place_others(rows, sampled, found)
        off = ~np.eye(len(sampled), dtype=bool)
        medians = {kind: float(np.median(d[:, off])) for kind, d in distances.items()}
        return rows, found, Effort(n, len(sampled), len(repeated), rounds, self.meeting.nbytes, 0.0, medians)

    def _size_messages(self) -> None:
        """Lengthen the messages until an exchange takes long enough to be told apart, or is long enough."""
        trial = tournament(self.comm.size, _TRIAL, self.at_once, 1)
        while True:
            self.meeting.meet("exchange", trial)  # connects
            taken = objects.allgather(self.comm, float(np.nanmax([0.0, *self.meeting.meet("exchange", trial)])))
            if np.median([x for x in taken if x > 0]) >= _ENOUGH_SECONDS or self.meeting.nbytes >= _MOST_BYTES:
                return
            self.meeting.resize(self.meeting.nbytes * 4)

    def _undisturbed(self) -> int:
        """How many pairs may play ping-pong at once without slowing each other down."""
        full = tournament(self.comm.size, _TRIAL, most=1)[0]
        first = [end for end in range(self.comm.size) if full[end] > end][:_TRIED]
        alone = np.full((len(first), self.comm.size), -1, np.int64)
        for row, end in zip(alone, first, strict=True):
            row[[end, full[end]]] = full[end], end
        quiet = self._median_ping(alone, first)
        pairs = self.comm.size // 2 if self.at_once is None else min(self.at_once, self.comm.size // 2)
        while pairs > 1:
            together = tournament(self.comm.size, _TRIAL, pairs, -(-(self.comm.size // 2) // pairs))
            if self._median_ping(together, first) <= _DISTURBED * quiet:
                break
            pairs //= 2
        return max(1, pairs)

    def _median_ping(self, rounds: IntArray, some: Sequence[int]) -> float:
        """Median over ``some`` ends, each with one partner, the better of two tries: the first may connect."""
        tries = [self.meeting.meet("mean", rounds) for _ in range(2)]
        taken = objects.allgather(self.comm, float(np.nanmin([np.inf, *tries[0], *tries[1]])))
        return float(np.median([taken[end] for end in some]))

    def _sample(self) -> IntArray:
        """As many ends as two repetitions in two thirds of the time allow, but at least 16."""
        n = self.comm.size
        took = {}
        for kind, at_once in self._concurrency.items():
            began = time.perf_counter()
            self.meeting.meet(kind, tournament(n, _TRIAL, at_once, 2))
            took[kind] = max(objects.allgather(self.comm, (time.perf_counter() - began) / 2))
        size = min(n, MOST_SAMPLED)
        while size > 16:
            needed = sum(rounds_of_tournament(size, self._concurrency[kind]) * took[kind] for kind in KINDS)
            if 3 * needed <= self.seconds:
                break
            size = max(16, size * 3 // 4)
        return np.sort(np.random.default_rng(n).permutation(n)[:size]).astype(np.int64)

    @property
    def _concurrency(self) -> dict[str, int | None]:
        return {"latency": self.undisturbed, "exchange": self.at_once}

    def _repeat(self, sampled: IntArray) -> tuple[list[dict[str, FloatArray]], int]:
        """Tournaments among the sampled ends until time or repetitions are used up, at least two; rounds of each."""
        repeated: list[dict[str, FloatArray]] = []
        more, rounds = True, 0
        while more:
            began, done = time.perf_counter(), len(repeated)
            rows = {
                kind: _among(sampled, self.comm.size, tournament(len(sampled), done, at_once))
                for kind, at_once in self._concurrency.items()
            }
            rounds = sum(map(len, rows.values()))
            repeated.append(
                {
                    kind: self.meeting.distances(kind, rows[kind], sampled, self._share(done + k / 2))
                    for k, kind in enumerate(KINDS)
                }
            )
            now = time.perf_counter()
            enough = len(repeated) >= REPETITIONS or (len(repeated) >= 2 and 2 * now - began > self.deadline)
            more = bool(objects.bcast(self.comm, not enough))
        return repeated, rounds

    def _share(self, done: float) -> OnProgress | None:
        """Progress inside half a repetition as that of the whole: repetitions, or time if that is more."""
        tell = self.progress
        if tell is None:
            return None
        return lambda share: tell(min(1.0, max((done + share / 2) / REPETITIONS, 1 - self._left() / self.seconds)))

    def _left(self) -> float:
        return max(0.0, self.deadline - time.perf_counter())

    def _place_others(self, rows: IntArray, sampled: IntArray, found: Found) -> None:
        """Fill in the rows of the ends that were not sampled, from two rounds of meetings with leaders."""
        leaders = leaders_of(found.levels[-1].places)
        others = np.flatnonzero(rows[:, 0] < 0)
        meetings = [against_leaders(sampled[leaders], others, self.comm.size, seed) for seed in range(2)]
        medians = {
            kind: np.median([self.meeting.distances(kind, m, sampled[leaders])[others] for m in meetings], axis=0)
            for kind in KINDS
        }
        rows[others] = join(found.levels, leaders, medians)
        alone = rows < 0
        rows[alone] = len(rows) + np.flatnonzero(alone.any(axis=1)).repeat(alone.sum(axis=1)[alone.any(axis=1)])


def _among(sampled: IntArray, size: int, rounds: IntArray) -> IntArray:
    """Rounds of the sampled ends as rounds of all ``size`` ends."""
    rows = np.full((len(rounds), size), -1, np.int64)
    rows[:, sampled] = np.where(rounds >= 0, sampled[rounds], -1)
    return rows
