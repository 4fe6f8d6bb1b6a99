"""Comparing a few numbers over all ranks, and telling whether the others have begun to."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from topocomm.arrays import IntArray

__all__ = ["Agreement"]

_AGREE, _NOTICE = 1, 2


class Agreement:
    """Comparisons over all ranks of a private communicator."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm = comm
        rank, size = comm.Get_rank(), comm.Get_size()
        self._before, self._after = (rank - 1) % size, (rank + 1) % size
        self._before_waits = False  # the rank before this one has said that it wants to compare, and not taken it back

    def largest(self, mine: Sequence[int]) -> IntArray:
        """The largest of every number over all ranks. Collective.

        By dissemination with messages, so that a rank can see whether the others have begun, which no collective of
        MPI shows.
        """
        rank, size = self.comm.Get_rank(), self.comm.Get_size()
        held, got, distance = np.array(mine, np.int64), np.empty(len(mine), np.int64), 1
        while distance < size:
            there, here = (rank + distance) % size, (rank - distance) % size
            self.comm.Sendrecv(held, there, _AGREE, got, here, _AGREE)
            held, distance = np.maximum(held, got), 2 * distance
        self._read_notices()
        self._before_waits = False
        return held

    def others_come(self, seconds: float) -> bool:
        """Whether, within ``seconds``, the rank before this one wants to compare, too.

        If all ranks want to, each one's turn comes. If not, nothing is left behind that would disturb later: the notice
        to the rank after this one is taken back.
        """
        deadline = time.monotonic() + seconds
        self._tell(True)
        while not self.comm.Iprobe(self._before, _AGREE):
            self._read_notices()
            if self._before_waits:
                break
            if time.monotonic() > deadline:
                self._tell(False)
                return False
            time.sleep(0.0005)
        return True

    def _tell(self, waits: bool) -> None:
        self.comm.Send(np.array([waits], np.int64), self._after, _NOTICE)

    def _read_notices(self) -> None:
        notice = np.empty(1, np.int64)
        while self.comm.Iprobe(self._before, _NOTICE):
            self.comm.Recv(notice, self._before, _NOTICE)
            self._before_waits = bool(notice[0])
