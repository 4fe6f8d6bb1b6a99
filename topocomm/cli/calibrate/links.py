"""Measuring for ``calibrate``: latency, overhead and bytes/s between chosen ranks of a live communicator."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from topocomm.model.calibration import Crossing, LevelFigures, crossings
from topocomm.topology import Topology
from topocomm.topology.live.meeting import OnProgress, quiet_barrier

__all__ = ["Figures", "measure_figures"]

_PLACES = 3
"""Places of a level that are measured, one after the other."""
_REPETITIONS = 5
_FLOW_SECONDS = 0.2
_FIRST_BYTES, _MESSAGE_BYTES, _MOST_BYTES = 64 << 10, 4 << 20, 256 << 20
_PINGS, _BURST = 100, 64
_HEARD = 1
"""Tag of an answer."""


@dataclass(frozen=True)
class Figures:
    """Everything measured: levels outermost first; see :func:`topocomm.model.calibration.fit`.

    ``alone`` says that the rank's speed was measured by messages to itself: no innermost place has two ranks.
    """

    levels: tuple[LevelFigures, ...]
    rank_speed: float
    alone: bool
    near: float | None
    overhead: float


def measure_figures(comm: MPI.Intracomm, topology: Topology, seconds: float, progress: OnProgress) -> Figures:
    """Measure every level of ``topology``, one place after the other. Collective; the same on every rank.

    Takes about ``seconds``, more if a single look at everything takes more.
    """
    private = comm.Dup()
    try:
        return _Bench(private, topology, seconds, progress).run()
    finally:
        private.Free()


class _Bench:
    def __init__(self, comm: MPI.Intracomm, topology: Topology, seconds: float, progress: OnProgress) -> None:
        self.comm, self.topology, self.progress = comm, topology, progress
        self.places = {name: crossings(topology, name, _PLACES) for name in topology.levels}
        self.near = _near_pairs(topology)
        self._began, self._seconds = time.perf_counter(), seconds
        self._steps = 2 + 4 * sum(map(len, self.places.values()))
        self._step = 0
        self._buffer = np.zeros(_MESSAGE_BYTES, np.uint8)

    def run(self) -> Figures:
        """Measure every level, the overhead, and a rank's own speed."""
        levels = tuple(self._level(name, self.places[name]) for name in self.topology.levels)
        far = next((places[0].pairs()[0] for places in self.places.values() if places), None) or self.near[0]
        overhead = self._repeated(lambda: self._overhead(*far))
        self._tick()
        near = self._repeated(lambda: self._latency(*self.near[0])) if self.near else None
        pair = self.near[0] if self.near else (0, 0)
        speed = self._speed([pair])
        self._tick()
        return Figures(levels, speed, not self.near, near, overhead)

    def _level(self, name: str, places: Sequence[Crossing]) -> LevelFigures:
        if not places:
            return LevelFigures(
                name, ways=max(self._ways(name, ranks.tolist()) for ranks in self.topology.groups(name))
            )
        rows = []
        for place in places:
            pairs = place.pairs()
            first = pairs[0]
            row = [self._tick(self._speed([first])), self._tick(self._speed(pairs))]
            row.append(self._tick(self._speed([(b, a) for a, b in pairs])))
            row.append(self._tick(self._repeated(lambda pair=first: self._latency(*pair))))  # type: ignore[misc]
            rows.append(row)
        pair, up, down, latency = (float(x) for x in np.median(rows, axis=0))
        return LevelFigures(name, pair, up, down, latency, self._ways(name, places[0].inside))

    def _ways(self, name: str, inside: Sequence[int]) -> int:
        """Count the inner places, or ranks, that a place sends from."""
        depth = self.topology.level_index(name) + 1
        if depth == len(self.topology.levels):
            return len(inside)
        return len(set(self.topology.places[list(inside), depth].tolist()))

    def _tick(self, value: float = 0.0) -> float:
        self._step += 1
        if self.comm.rank == 0:
            self.progress(self._step / self._steps)
        return value

    def _repeated(self, once: Callable[[], float]) -> float:
        """Return the median of repetitions, as many as this step's share of the time allows, at least one."""
        until = self._began + self._seconds * (self._step + 1) / self._steps
        values = [once()]
        while self.comm.bcast(len(values) < _REPETITIONS and time.perf_counter() < until):
            values.append(once())
        return float(np.median(values))

    # -- one look; collective: ranks without a part in it sleep in the barrier ------------------------------------

    def _latency(self, a: int, b: int) -> float:
        """Measure the seconds one way of 8 bytes: the lower quartile of many round trips, halved."""
        ping, taken = np.zeros(8, np.uint8), [0.0]
        quiet_barrier(self.comm)
        if self.comm.rank in (a, b):
            taken = [self._round_trip(ping, a, b) for _ in range(_PINGS)]
        quiet_barrier(self.comm)
        return float(self.comm.bcast(np.quantile(taken, 0.25) / 2, root=a))

    def _round_trip(self, ping: np.ndarray[tuple[int], np.dtype[np.uint8]], a: int, b: int) -> float:
        began = time.perf_counter()
        if self.comm.rank == a:
            self.comm.Send(ping, b)
            self.comm.Recv(ping, b)
        else:
            self.comm.Recv(ping, a)
            self.comm.Send(ping, a)
        return time.perf_counter() - began

    def _overhead(self, a: int, b: int) -> float:
        """Measure the seconds that each of many small messages in a row occupies ``a``; ``b`` waits for them."""
        took = 0.0
        quiet_barrier(self.comm)
        if self.comm.rank == b:
            into = np.zeros((_BURST, 8), np.uint8)
            requests = [self.comm.Irecv(row, a) for row in into]
            self.comm.Send(into[:0], a, _HEARD)
            MPI.Request.Waitall(requests)
        elif self.comm.rank == a:
            message = np.zeros(8, np.uint8)
            self.comm.Recv(message[:0], b, _HEARD)
            began = time.perf_counter()
            requests = [self.comm.Isend(message, b) for _ in range(_BURST)]
            took = (time.perf_counter() - began) / _BURST
            MPI.Request.Waitall(requests)
        quiet_barrier(self.comm)
        return float(self.comm.bcast(took, root=a))

    def _speed(self, flows: Sequence[tuple[int, int]]) -> float:
        """Measure bytes/s of all ``flows`` (source, target) together, in messages long enough to be measured."""
        nbytes = _FIRST_BYTES
        while True:
            took = self._flow(flows, nbytes)
            if took >= _FLOW_SECONDS / 2 or nbytes >= _MOST_BYTES:
                break
            nbytes = min(_MOST_BYTES, max(nbytes * 2, int(nbytes * min(64.0, _FLOW_SECONDS / took))))
        return len(flows) * nbytes / self._repeated(lambda: self._flow(flows, nbytes))

    def _flow(self, flows: Sequence[tuple[int, int]], nbytes: int) -> float:
        """Measure the seconds until every target has ``nbytes`` from its source, all flows at once."""
        me = self.comm.rank
        into = [np.empty(min(nbytes, _MESSAGE_BYTES), np.uint8) for _, target in flows if target == me]
        quiet_barrier(self.comm)
        began = time.perf_counter()
        left = nbytes
        while left > 0 and any(me in flow for flow in flows):
            size = min(left, _MESSAGE_BYTES)
            sources = [source for source, target in flows if target == me]
            requests = [self.comm.Irecv(b[:size], source) for b, source in zip(into, sources, strict=True)]
            requests += [self.comm.Isend(self._buffer[:size], target) for source, target in flows if source == me]
            MPI.Request.Waitall(requests)
            left -= size
        took = time.perf_counter() - began
        quiet_barrier(self.comm)
        return float(self.comm.allreduce(took if into else 0.0, MPI.MAX))


def _near_pairs(topology: Topology) -> list[tuple[int, int]]:
    """Choose two ranks of an innermost place (any two if there are no levels); empty if each has one rank only."""
    groups = topology.groups(topology.levels[-1]) if topology.levels else [np.arange(topology.size)]
    return [(int(ranks[0]), int(ranks[1])) for ranks in groups if len(ranks) > 1][:1]
