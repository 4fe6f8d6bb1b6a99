"""Pairs of ranks that meet in rounds and take the time: ping-pong, or a long exchange. Knows MPI, like discover.py."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from topocomm.arrays import IntArray
from topocomm.topology.live.levels import FloatArray

__all__ = ["KINDS", "Meeting", "OnProgress", "quiet_barrier"]

KINDS = ("latency", "exchange")
_PINGS = 20
_PIECES = 8
"""A long exchange is so many messages each way, all posted at once: a single one by rendezvous may move both ways one
after the other (Open MPI over TCP: every other time, and pairs that share an uplink then do so without a trace)."""
_SPIN_SECONDS, _SLEEP_SECONDS = 2e-4, 2e-4

OnProgress = Callable[[float], None]
"""Called now and then on rank 0 with the share of the work that is done, 0 to 1."""


def quiet_barrier(comm: MPI.Intracomm) -> None:
    """A barrier whose waiting ranks soon sleep, so that they take no core from those that still measure."""
    request = comm.Ibarrier()
    spin_until = time.perf_counter() + _SPIN_SECONDS
    while not request.Test():
        if time.perf_counter() > spin_until:
            time.sleep(_SLEEP_SECONDS)


class Meeting:
    """Rounds of pairs on a communicator whose ranks are the ends."""

    def __init__(self, comm: MPI.Intracomm, nbytes: int) -> None:
        self.comm = comm
        self._ping = np.zeros(8, np.uint8)
        self.resize(nbytes)

    def resize(self, nbytes: int) -> None:
        """Exchange so many bytes each way from now on, a multiple of eight."""
        self.nbytes = nbytes
        self._send, self._receive = (np.zeros((_PIECES, nbytes // _PIECES), np.uint8) for _ in range(2))

    def distances(
        self, kind: str, rounds: IntArray, columns: IntArray, progress: OnProgress | None = None
    ) -> FloatArray:
        """Seconds from every end to the ends ``columns``: an array (ends, columns), nan for pairs that did not meet.

        Collective, the same on every rank; otherwise as :meth:`meet`.
        """
        mine = self.meet(kind, rounds, progress)[columns]
        everyone = np.empty((self.comm.size, len(columns)))
        self.comm.Allgather(mine, everyone)
        return everyone

    def meet(self, kind: str, rounds: IntArray, progress: OnProgress | None = None) -> FloatArray:
        """Seconds from this end to all it met, nan for others; both of a pair have the same. Collective.

        ``kind`` is one of :data:`KINDS`, or ``"mean"``: of all pings, where the latency is the shortest one.
        ``rounds`` is an array (rounds, ends) of partners, -1 for who rests.
        """
        mine = np.full(self.comm.size, np.nan)
        for done, partners in enumerate(rounds):
            other = int(partners[self.comm.rank])
            quiet_barrier(self.comm)
            if other >= 0:
                taken = self._exchange(other) if kind == "exchange" else self._latency(other, kind)
                theirs = self.comm.sendrecv(taken, other, source=other)
                mine[other] = min(taken, theirs) if kind == "latency" else max(taken, theirs)
            if progress is not None:
                progress((done + 1) / len(rounds))
        return mine

    def _latency(self, other: int, kind: str) -> float:
        _change_core()
        taken = [self._round_trip(other) / 2 for _ in range(_PINGS)]
        return min(taken) if kind == "latency" else float(np.mean(taken))

    def _round_trip(self, other: int) -> float:
        began = time.perf_counter()
        if self.comm.rank < other:
            self.comm.Send(self._ping, other)
            self.comm.Recv(self._ping, other)
        else:
            self.comm.Recv(self._ping, other)
            self.comm.Send(self._ping, other)
        return time.perf_counter() - began

    def _exchange(self, other: int) -> float:
        self._round_trip(other)  # both are there
        began = time.perf_counter()
        requests = [self.comm.Irecv(piece, other, 0) for piece in self._receive]
        requests += [self.comm.Isend(piece, other, 0) for piece in self._send]
        MPI.Request.Waitall(requests)
        return time.perf_counter() - began


def _change_core() -> None:
    """Move to any core this process may run on, and stay free to leave it.

    Which ranks share a core or a cache would else stay the same for seconds and look like a level of the machine;
    so it differs from repetition to repetition. A rank that is bound to a core stays there.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {random.choice(sorted(cores))})
        finally:
            os.sched_setaffinity(0, cores)
