"""Leaving a context: together, alone, at the end of the program, and in a forked child."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence
from time import monotonic
from typing import Any

import numpy as np

from topocomm.rma import errors
from topocomm.rma.handles import Owner

__all__ = ["OPEN", "Meetings"]

OPEN: set[Owner] = set()  # a context is not given up before it is closed: its thread and its peers use it
LEFT: list[tuple[Any, ...]] = []  # requests left alone, each with the memory that MPI may still read
LOOK = 0.5  # seconds between looks at the peers
MOMENT = 1.0  # seconds for which the end of a program waits for that of the others


class Meetings:
    """The two meetings at the end: everybody has done with the data; everybody has sent its last word.

    Each is a non-blocking Allgather of one flag, so that waiting ranks go on driving their transports. A rank that
    leaves after an error takes part in both without waiting for them: the others learn who it was, and later calls on
    the communicator find their partners.
    """

    def __init__(self, context: Owner) -> None:
        self.context = context
        self.who = f"leaving the context on rank {context.rank}"
        self.end = monotonic() + context.timeout
        self.left = 2

    def post(self, alone: bool) -> tuple[Any, Any, Any]:
        """Begin the next meeting; returns request, all flags, own flag."""
        self.left -= 1
        mine, all_ = np.array([alone], np.int8), np.zeros(self.context.size, np.int8)
        return self.context.comm.Iallgather(mine, all_), all_, mine

    def meet(self) -> None:
        """Wait for all ranks. Errors: PeerLost naming one that left alone or died, WaitTimeout."""
        if not hasattr(self.context.comm, "Iallgather"):
            self.look()
            self.left -= 1
            self.context.comm.allgather(None)
            return
        request, flags, mine = self.post(False)
        look = monotonic() + LOOK
        try:
            while not request.Test():
                self.context.progress()
                if monotonic() >= look:
                    look = monotonic() + LOOK
                    self.look()
        except BaseException:
            LEFT.append((request, flags, mine))
            raise
        if flags.any():
            raise self.context.peer_lost(self.who, int(flags.argmax()))

    def look(self) -> None:
        """Check peers and time. Errors: WaitTimeout; PeerLost before the last meeting, as nobody can have left yet."""
        lost = [r for r in range(self.context.size) if self.left and not self.context.alive(r)]
        if lost:
            raise self.context.peer_lost(self.who, lost[0])
        if monotonic() >= self.end:
            limit = self.context.timeout
            raise errors.WaitTimeout(f"{self.who}: some rank has not left it within {limit:g} s; see Context(timeout)")

    def abandon(self) -> None:
        """Take part in the meetings that are left, and wait for none."""
        if not hasattr(self.context.comm, "Iallgather"):
            return
        with contextlib.suppress(Exception):  # an error is on its way already
            while self.left:
                LEFT.append(self.post(True))


def mpi_ended() -> bool:
    """Return True once MPI is finalized: then none of its functions may be called."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and bool(mpi.Is_finalized())


def _close_all() -> None:
    """Close all contexts at the end of the program, before MPI ends: the peers see this one leave.

    After an uncaught error at once; else the others have a moment to end, too, with this rank's transports driven.
    """
    contexts = sorted(OPEN, key=lambda context: context.serial)
    if getattr(sys, "last_value", None) is None and not mpi_ended():
        _wait_a_moment([c for c in contexts if hasattr(c.comm, "Iallgather")])
    for context in contexts:
        context.close()
    end = monotonic() + LOOK
    with contextlib.suppress(Exception):
        while LEFT and not mpi_ended() and monotonic() < end:
            LEFT[:] = [entry for entry in LEFT if not entry[0].Test()]


def _wait_a_moment(contexts: Sequence[Owner]) -> None:
    end = monotonic() + MOMENT
    with contextlib.suppress(Exception):  # the program is over: there is nobody to be told
        meetings = [Meetings(context).post(False) for context in contexts]
        while monotonic() < end:
            for context in contexts:
                context.progress()
            left = [request for request, *_ in meetings if not request.Test()]
            if not left:
                return
        LEFT.extend(meetings)


def _forget_all() -> None:
    """Give up all contexts in a forked child: they are the parent's, as its rank is."""
    for context in list(OPEN):
        context.forget()
    LEFT.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
