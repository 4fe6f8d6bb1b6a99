"""Comparing a few numbers over all ranks, and noticing that the others have begun to."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from topocomm.topology.topology import IntArray

__all__ = ["AGREE_TAG", "has_begun", "largest"]

AGREE_TAG = 1


def largest(comm: MPI.Intracomm, mine: Sequence[int]) -> IntArray:
    """The largest of every number over all ranks. Collective.

    By dissemination with messages, so that a rank can see whether the others have begun (:func:`has_begun`), which no
    collective of MPI shows.
    """
    rank, size = comm.Get_rank(), comm.Get_size()
    held, got, distance = np.array(mine, np.int64), np.empty(len(mine), np.int64), 1
    while distance < size:
        comm.Sendrecv(held, (rank + distance) % size, AGREE_TAG, got, (rank - distance) % size, AGREE_TAG)
        held, distance = np.maximum(held, got), 2 * distance
    return held


def has_begun(comm: MPI.Intracomm, seconds: float) -> bool:
    """Whether, within ``seconds``, the rank before this one waits in :func:`largest` for this one.

    If all others wait there, each rank's turn comes; if one does not, nothing has been sent that would be left over.
    """
    before, deadline = (comm.Get_rank() - 1) % comm.Get_size(), time.monotonic() + seconds
    while not comm.Iprobe(before, AGREE_TAG):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True
